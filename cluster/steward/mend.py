"""The bytes of a repair: read k verified shards, rebuild what is lacking, write it, count again from the disks.

Nothing here touches the catalog. What was put is worth nothing until the layout names it, and nothing that
the old layout names is deleted here (P7).
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence, Set
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from catalog.model import BlobRow, ExtraCopy, FaultReport
from cluster import shard_io, wire
from cluster.budget import ByteBudget
from cluster.errors import LinkError, RemoteFault
from cluster.placement import Copy
from cluster.shard_io import Fetched
from cluster.steward.node_calls import Found, call, verify_blocks
from cluster.steward.plan import Stretch, chunks, geometry_of
from cluster.steward.services import StewardServices
from cluster.steward.standing import Standing
from cluster.steward.throttle import Throttle
from cluster.stripe_read import CORRUPT, MISSING
from codec.block import BlockKey, Buffer
from codec.erasure import ErasureCode

T = TypeVar("T")

_CHUNK_STRIPES_MAX: Final = 256
_CHUNKS_AT_ONCE: Final = 2  # while one waits for its sync and its verification, the next one reads
_CODES_MAX: Final = 16
_REFUSALS: Final = frozenset((wire.Status.READ_ONLY, wire.Status.FAILED, wire.Status.CONFLICT))


class CannotPut(Exception):
    """A node did not take a new copy, or did not keep it: plan again without it."""

    def __init__(self, node: int, why: str) -> None:
        super().__init__(f"node {node}: {why}")
        self.node = node


class OutOfReach(Exception):
    """A block could not be looked at now. That says nothing about it: try again later."""


class Unreadable(Exception):
    """Fewer than k good shards of a stripe are left on nodes that all answered."""

    def __init__(self, stripe: int, faults: Sequence[FaultReport]) -> None:
        super().__init__(f"stripe {stripe}: {', '.join(f'shard {f.shard} {f.kind}' for f in faults)}")
        self.stripe = stripe
        self.faults = tuple(faults)


class Suspect(NamedTuple):
    """A copy that somebody found bad."""

    stripe: int
    shard: int
    node: int


class Progressed(NamedTuple):
    """What a repair has done on the nodes so far, filled in while it goes on."""

    put: list[ExtraCopy]
    """New copies; extra ones unless the layout names them in the end."""
    dropped: list[ExtraCopy]
    """Copies that the planned layout does not name any more, as far as their nodes could be asked."""


class Mender:
    """Brings the stripes of blobs to where a plan wants them. For one event loop; all blobs in flight share
    its memory (P8) and its pace."""

    def __init__(self, services: StewardServices, throttle: Throttle) -> None:
        settings = services.settings
        self._services = services
        self._throttle = throttle
        self._budget = ByteBudget(settings.repair_buffer_bytes, waiters_max=1 << 20)
        self._chunk_bytes = settings.repair_chunk_bytes
        self._codes: dict[tuple[int, int, int], ErasureCode] = {}

    async def mend(
        self,
        blob: BlobRow,
        stretches: Iterable[Stretch],
        *,
        standing: Standing,
        avoid: Set[int],
        suspects: Set[Suspect],
        progressed: Progressed,
    ) -> bool:
        """Make each stripe lie as its stretch's `new` says, every copy on a present node verified.

        Kept copies are verified by being read; those among `suspects`, those that need not be read, and all
        where other copies are given up, by their nodes and from the disk itself, for a cache may still show
        what the disk has lost (S2). New ones are too (STYLE 12). True when that is all of the layout; False
        when some kept copies lie on nodes that can't be asked now or are in `avoid`. Raises CannotPut,
        OutOfReach, Unreadable; `progressed` is true then too.
        """
        stripes = max(1, min(_CHUNK_STRIPES_MAX, self._chunk_bytes // blob.stripe_bytes))
        slots = asyncio.Semaphore(_CHUNKS_AT_ONCE)

        async def one(stretch: Stretch) -> bool:
            async with slots:
                chunk = _Chunk(self, blob, stretch, standing=standing, avoid=avoid, progressed=progressed)
                return await chunk.run([suspect for suspect in suspects if suspect[0] in chunk.stripes])

        return all(await together(one(stretch) for stretch in chunks(stretches, stripes)))

    def code(self, blob: BlobRow) -> ErasureCode:
        """The code of the blob's geometry; there are as many as there were policies."""
        shape = (blob.k, blob.m, blob.stripe_bytes)
        code = self._codes.get(shape)
        if code is None:
            if len(self._codes) >= _CODES_MAX:
                self._codes.clear()
            code = self._codes[shape] = ErasureCode(geometry_of(blob))
        return code


class _Chunk:
    """A few megabytes of one blob: its stripes are fetched, rebuilt and put side by side, then synced and
    verified together."""

    def __init__(
        self,
        mender: Mender,
        blob: BlobRow,
        stretch: Stretch,
        *,
        standing: Standing,
        avoid: Set[int],
        progressed: Progressed,
    ) -> None:
        self._mender = mender
        self._services = mender._services
        self._blob = blob
        self._code = mender.code(blob)
        self._stretch = stretch
        self.stripes = range(stretch.first, stretch.stop)
        self._progressed = progressed
        self._present = standing.present
        self._away = standing.numbers - standing.present
        kept = stretch.kept
        self._checked = [copy for copy in kept if copy[1] in standing.present and copy[1] not in avoid]
        self._is_blind = len(self._checked) < len(kept)
        self._added = [copy for copy in stretch.new if copy not in kept]
        # Where copies are given up, those that stay must be good on their disks, and not only in a cache (P7).
        gives_up = any(node in standing.numbers for _, node in self._dropped())
        self._read_only = set() if gives_up else _distinct(self._checked, blob.k)
        self._good: dict[int, set[Copy]] = {stripe: set() for stripe in self.stripes}
        self._bad: dict[int, set[Copy]] = {stripe: set() for stripe in self.stripes}
        self._put: dict[int, list[tuple[BlockKey, wire.Appended]]] = {}  # by node

    async def run(self, suspects: Iterable[Suspect]) -> bool:
        """Whether every copy of the new layout was verified. Raises as `Mender.mend`."""
        await self._verify_unread(suspects)
        await together(self._mend_stripe(stripe) for stripe in self.stripes)
        await together(self._make_durable(node, puts) for node, puts in self._put.items())
        await together(self._note_dropped(node) for node in {node for _, node in self._dropped()})
        return not self._is_blind

    async def _verify_unread(self, suspects: Iterable[Suspect]) -> None:
        """Have the suspects, and the kept copies for which reading them is not enough, verified on their disks."""
        by_node: dict[int, dict[BlockKey, None]] = {}
        for shard, node in self._checked:
            if (shard, node) not in self._read_only:
                keys = by_node.setdefault(node, {})
                keys.update((BlockKey(self._blob.id, stripe, shard), None) for stripe in self.stripes)
        for stripe, shard, node in suspects:
            if (shard, node) in self._checked:
                by_node.setdefault(node, {})[BlockKey(self._blob.id, stripe, shard)] = None

        async def one(node: int, keys: Sequence[BlockKey]) -> None:
            for key, found in zip(keys, await self._verify(node, keys), strict=True):
                (self._good if found.ok else self._bad)[key.stripe].add((key.shard, node))

        await together(one(node, list(keys)) for node, keys in by_node.items())

    async def _mend_stripe(self, stripe: int) -> None:
        length = self._code.geometry.stripe_length(self._blob.size, stripe)
        await self._mender._throttle.take(length)
        # Twice the stripe: k shards that are read, what is rebuilt from them, and copies of both on the way.
        width, shard_bytes = self._code.geometry.width, self._code.geometry.shard_length(length)
        budget = self._mender._budget
        held = min(2 * width * shard_bytes, budget.total_bytes)
        await budget.acquire(held)
        try:
            fetched = await self._fetch(stripe, length)
            wanted = [*self._added, *sorted(self._bad[stripe])]
            if wanted:
                await self._put_shards(stripe, length, fetched, wanted)
        finally:
            budget.release(held)

    async def _fetch(self, stripe: int, length: int) -> Fetched:
        """k verified shards; kept copies are read first, and so checked. Raises OutOfReach, Unreadable."""
        known_bad = self._bad[stripe]
        order = [copy for copy in self._checked if copy not in known_bad]
        order += [
            copy for copy in self._stretch.old if copy[1] in self._present and copy not in self._checked
        ]
        order += sorted(known_bad)  # bad on the disk, and perhaps still whole in a cache: better than nothing
        fetched = await self._read(stripe, length, order)
        read = set(fetched.holders.items())
        known_bad.update((shard, node) for shard, node, _ in fetched.bad if (shard, node) in self._checked)
        if len(fetched.blocks) < self._blob.k:
            fetched = await self._fetch_from_anywhere(stripe, length, fetched)
            read.update(fetched.holders.items())
        for shard, node in self._checked:
            if (shard, node) not in known_bad | self._good[stripe] | read:
                raise OutOfReach(f"node {node} did not answer for shard {shard} of stripe {stripe}")
        return fetched

    async def _read(self, stripe: int, length: int, order: Sequence[Copy]) -> Fetched:
        deadline_s = self._services.settings.repair_deadline_s
        nodes = self._services.nodes
        return await shard_io.fetch(nodes, self._code, self._blob.id, stripe, length, order, deadline_s)

    async def _fetch_from_anywhere(self, stripe: int, length: int, first: Fetched) -> Fetched:
        """The layout does not give k shards: a copy may lie where it was before a move, or where an older
        catalog does not know of. Ask every node before giving up."""
        tried = {(shard, node) for shard, node, _ in first.bad}
        keys = [BlockKey(self._blob.id, stripe, shard) for shard in range(self._code.geometry.width)]
        order: list[Copy] = []
        silent = len(first.unreached)
        for node in sorted(self._present):
            try:
                found = await verify_blocks(self._services, node, keys, shard_bytes=1, deep=False)
            except LinkError:
                silent += 1
                continue
            order += [(key.shard, node) for key, state in zip(keys, found, strict=True) if state.ok]
        fetched = await self._read(stripe, length, [copy for copy in order if copy not in tried])
        if len(fetched.blocks) >= self._blob.k:
            return fetched
        away = [copy for copy in self._stretch.old if copy[1] in self._away]
        if away or silent or fetched.unreached:
            raise OutOfReach(
                f"stripe {stripe} has {len(fetched.blocks)} good shards on the nodes that answer"
            )
        known = [(shard, node, CORRUPT) for shard, node in self._bad[stripe]]
        faults = dict.fromkeys([*first.bad, *fetched.bad, *known])
        raise Unreadable(stripe, [FaultReport(stripe, shard, node, kind) for shard, node, kind in faults])

    async def _put_shards(self, stripe: int, length: int, fetched: Fetched, wanted: Sequence[Copy]) -> None:
        """Write the wanted copies, always as new ones (S20). Raises CannotPut."""
        payloads: dict[int, Buffer] = {
            shard: block.payload for shard, block in fetched.blocks.items() if block.is_whole
        }
        lacking = sorted({shard for shard, _ in wanted} - payloads.keys())
        payloads.update(self._code.rebuild(list(fetched.blocks.values()), length, lacking))
        await together(self._put_one(stripe, length, copy, payloads[copy[0]]) for copy in wanted)

    async def _put_one(self, stripe: int, length: int, copy: Copy, payload: Buffer) -> None:
        shard, node = copy
        link = self._services.nodes.link(node)
        if link is None:
            raise OutOfReach(f"node {node} is not part of the cluster any more")
        try:
            reply = await shard_io.put(
                *(link, self._blob.id, stripe, shard, payload, self._code.geometry, length),
                sync=len(self.stripes) == 1,
                repair=True,
                deadline_s=self._services.settings.repair_deadline_s,
            )
            appended = wire.decode_appended(reply.header)
        except RemoteFault as fault:
            if fault.status in _REFUSALS:
                raise CannotPut(node, str(fault)) from fault
            raise OutOfReach(f"node {node}: {fault}") from fault
        except (LinkError, msgspec.DecodeError) as error:
            raise OutOfReach(f"node {node}: {error}") from error
        key = BlockKey(self._blob.id, stripe, shard)
        self._progressed.put.append(ExtraCopy(*key, node, appended.sequence))
        self._put.setdefault(node, []).append((key, appended))

    async def _make_durable(self, node: int, puts: list[tuple[BlockKey, wire.Appended]]) -> None:
        """Sync what was put on a node (S1), then have it read again from the disk (STYLE 12)."""
        incarnations = {appended.incarnation for _, appended in puts}
        if len(incarnations) > 1:
            raise OutOfReach(f"node {node} restarted meanwhile")
        if len(self.stripes) > 1:
            last = max(appended.position for _, appended in puts)
            try:
                await call(self._services, node, wire.Op.SYNC, wire.Sync(incarnations.pop(), last))
            except LinkError as error:
                raise OutOfReach(f"node {node} did not sync: {error}") from error
        found = await self._verify(node, [key for key, _ in puts])
        for (key, appended), state in zip(puts, found, strict=True):
            if not state.ok or state.sequence < appended.sequence:
                kind = MISSING if state.missing else CORRUPT
                raise CannotPut(node, f"the new copy of {key} is {kind} when read again")

    def _dropped(self) -> list[Copy]:
        return [copy for copy in self._stretch.old if copy not in self._stretch.new]

    async def _note_dropped(self, node: int) -> None:
        """Learn the names of the copies that the new layout leaves out (S20). What can't be asked now is
        found by scrub later."""
        if node not in self._present:
            return
        shards = [shard for shard, holder in self._dropped() if holder == node]
        keys = [BlockKey(self._blob.id, stripe, shard) for stripe in self.stripes for shard in shards]
        try:
            found = await verify_blocks(self._services, node, keys, shard_bytes=1, deep=False)
        except LinkError:
            return
        self._progressed.dropped.extend(
            ExtraCopy(*key, node, state.sequence)
            for key, state in zip(keys, found, strict=True)
            if not state.missing and state.sequence
        )

    async def _verify(self, node: int, keys: Sequence[BlockKey]) -> list[Found]:
        shard_bytes = self._code.geometry.shard_length(self._blob.stripe_bytes)
        try:
            return await verify_blocks(self._services, node, keys, shard_bytes=shard_bytes, deep=True)
        except LinkError as error:
            raise OutOfReach(f"node {node} could not verify {len(keys)} blocks: {error}") from error


def _distinct(copies: Iterable[Copy], k: int) -> set[Copy]:
    """The first k copies of different shards: `shard_io.fetch` reads just these when all is well."""
    by_shard: dict[int, Copy] = {}
    for copy in copies:
        if len(by_shard) < k:
            by_shard.setdefault(copy[0], copy)
    return set(by_shard.values())


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all side by side; the first failure cancels the rest and is raised once they have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
