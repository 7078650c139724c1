"""A body becomes durable: stripes → shards → nodes → a receipt (P1, S1, S10)."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from cluster import wire
from cluster.budget import ByteBudget
from cluster.errors import LinkDown, LinkError, NodeRestarted, NotEnoughNodes, WriteFailed
from cluster.link import Link
from cluster.placement import place
from cluster.topology import NodeSet
from codec.block import CODEC_ISA_L_RS_CAUCHY, page_checksums
from codec.erasure import ErasureCode
from codec.geometry import Geometry

SYNC_BYTES_MAX: Final = 32 << 20  # S1

_PUT: Final = int(wire.Op.PUT_BLOCK)
_SYNC: Final = int(wire.Op.SYNC)


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """`window_stripes`: stripes of one blob in flight. `sync_bytes`: shard bytes a node acknowledged before
    a sync is asked for; with what is in flight it stays below S1's limit. Deadlines in seconds."""

    window_stripes: int = 4
    sync_bytes: int = 16 << 20
    put_deadline_s: float = 10.0
    sync_deadline_s: float = 30.0

    def __post_init__(self) -> None:
        if self.window_stripes < 1 or not 0 < self.sync_bytes <= SYNC_BYTES_MAX // 2:
            raise ValueError("a window of at least one stripe, a sync at least every 16 MiB")


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """A blob as it lies on the nodes: `nodes[i]` holds shard i of each of its stripes."""

    blob_id: bytes
    size: int
    k: int
    m: int
    stripe_bytes: int
    nodes: tuple[int, ...]
    stripes: int


class BlobIds:
    """Makes blob ids: upload epoch u32, counter u32 (both big-endian), random u64 (S15).

    Ids made one after another lie side by side in an index; the random part keeps processes apart, also
    one that starts its counter again. `random(n)` returns n unpredictable bytes.
    """

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._counter = 0
        self._pool = b""

    def new(self, epoch: int) -> bytes:
        """A new id within an upload epoch (S19)."""
        if not self._pool:
            self._pool = self._random(1024)
        random, self._pool = self._pool[:8], self._pool[8:]
        self._counter = counter = (self._counter + 1) & 0xFFFFFFFF
        return (epoch << 32 | counter).to_bytes(8, "big") + random


class BlobWriter:
    """Writes blobs of one geometry. Knows nothing of names, keys or the catalog.

    Memory: the budget bounds the stripes of all writes together. For one event loop.
    """

    def __init__(
        self,
        nodes: NodeSet,
        geometry: Geometry,
        budget: ByteBudget,
        ids: BlobIds,
        settings: WriterSettings | None = None,
        *,
        on_abandoned: Callable[[Receipt], None] | None = None,
    ) -> None:
        """`on_abandoned` hears of each blob that may lie on nodes and of which the caller got no receipt and
        no WriteFailed: its write was cancelled, or its body raised. It is garbage (S11)."""
        self.geometry = geometry
        self.settings = settings or WriterSettings()
        self._nodes = nodes
        self._code = ErasureCode(geometry)
        self._budget = budget
        self._ids = ids
        self._on_abandoned = on_abandoned

    async def write_one(self, stripe: bytes, *, epoch: int) -> Receipt:
        """Make a blob of at most one stripe durable on all its nodes: one round, append and sync together.

        The caller holds the budget for `stripe`, which is in memory already. An empty blob costs no I/O.
        Raises NotEnoughNodes, WriteFailed.
        """
        length = len(stripe)
        blob_id = self._ids.new(epoch)
        if not length:
            return self._receipt(blob_id, 0, (), 0)
        placed = self._place(blob_id)
        try:
            for future in self._send(blob_id, 0, stripe, placed, sync=True):
                await future
        except LinkError as error:
            receipt = self._receipt(blob_id, length, placed, 1)
            raise WriteFailed(f"blob {blob_id.hex()}: {error}", receipt) from error
        except BaseException:
            self._abandon(self._receipt(blob_id, length, placed, 1))
            raise
        return self._receipt(blob_id, length, placed, 1)

    async def write(self, stripes: AsyncIterator[bytes], *, epoch: int, size_hint: int = -1) -> Receipt:
        """Make a blob of any length durable on all its nodes.

        Each item of `stripes` has exactly `geometry.stripe_bytes` bytes, but the last may be short; the
        budget for it is taken before it is asked for. `size_hint` is the blob's length, or -1: a short blob
        then takes less of the budget and saves the separate sync. Returns when every shard is covered by a
        successful sync in one incarnation of its node (S1). Raises NotEnoughNodes, WriteFailed, BudgetFull,
        and whatever `stripes` raises.
        """
        upload = _Upload(self._ids.new(epoch), size_hint)
        try:
            await self._pump(upload, stripes)
            await self._sync_all(upload)
        except LinkError as error:
            reason = f"blob {upload.blob_id.hex()}: {error}"
            raise WriteFailed(reason, self._receipt_of(upload) if upload.stripes else None) from error
        except BaseException:
            if upload.stripes:
                self._abandon(self._receipt_of(upload))
            raise
        finally:
            self._budget.release(upload.held_bytes)
        return self._receipt_of(upload)

    async def _pump(self, upload: "_Upload", stripes: AsyncIterator[bytes]) -> None:
        """Send all stripes, a window of them in flight at once; returns when all are appended."""
        stripe_bytes = self.geometry.stripe_bytes
        sync = 0 <= upload.size_hint <= stripe_bytes
        while True:
            taken = await self._take(upload)
            stripe = await anext(stripes, None)
            if stripe is None:
                break
            assert 0 < len(stripe) <= taken, "a stripe is longer than announced"
            assert upload.size == upload.stripes * stripe_bytes, "only the last stripe may be short"
            if not upload.logs:
                upload.logs = self._logs(self._place(upload.blob_id))
            self._give_back(upload, taken - len(stripe))
            placed = tuple([log.node for log in upload.logs])
            number = upload.stripes
            upload.stripes += 1  # before the first byte leaves: what may lie on a node is garbage if we fail
            upload.size += len(stripe)
            futures = self._send(upload.blob_id, number, stripe, placed, sync=sync)
            upload.in_flight.append(_InFlight(futures, len(stripe), sync))
            if len(upload.in_flight) >= self.settings.window_stripes:
                await self._settle(upload)
        while upload.in_flight:
            await self._settle(upload)

    async def _take(self, upload: "_Upload") -> int:
        """Budget for the next stripe. Who waits in line for it holds none: no two can block each other."""
        want = self.geometry.stripe_bytes
        if upload.size_hint >= 0:
            want = max(min(want, upload.size_hint - upload.size), 1)
        while not self._budget.try_acquire(want):
            if not upload.in_flight:
                await self._budget.acquire(want)
                break
            await self._settle(upload)
        upload.held_bytes += want
        return want

    def _give_back(self, upload: "_Upload", n: int) -> None:
        upload.held_bytes -= n
        self._budget.release(n)

    async def _settle(self, upload: "_Upload") -> None:
        """Wait for the oldest stripe in flight; ask for a sync where enough was appended since the last."""
        oldest = upload.in_flight[0]
        for log, future in zip(upload.logs, oldest.futures, strict=True):
            log.note(wire.decode_appended((await future).header), synced=oldest.sync)
            log.unsynced_bytes += self.geometry.shard_length(oldest.stripe_bytes)
        upload.in_flight.popleft()
        self._give_back(upload, oldest.stripe_bytes)
        for log in upload.logs:
            if log.unsynced_bytes >= self.settings.sync_bytes:
                await log.sync_done()
                log.ask_sync(self.settings.sync_deadline_s)

    async def _sync_all(self, upload: "_Upload") -> None:
        """Cover every position of every node by a sync (S1)."""
        for log in upload.logs:
            await log.sync_done()
            if log.synced < log.position:
                log.ask_sync(self.settings.sync_deadline_s)
        for log in upload.logs:
            await log.sync_done()
            if log.synced < log.position:
                raise LinkError(f"node {log.node} answered a sync that does not cover what was asked")

    def _send(
        self, blob_id: bytes, number: int, stripe: bytes, placed: tuple[int, ...], *, sync: bool
    ) -> list["asyncio.Future[wire.Frame]"]:
        """Encode one stripe and send its shards; the replies by shard. Raises LinkDown, LinkBusy."""
        k, m = self.geometry.k, self.geometry.m
        length = len(stripe)
        deadline_s = self.settings.put_deadline_s
        link = self._nodes.link
        futures = []
        for shard, payload in enumerate(self._code.encode(stripe)):
            to = link(placed[shard])
            if to is None:
                raise LinkDown(f"node {placed[shard]} was removed")
            put = wire.PutBlock(
                blob_id, number, shard, k, m, CODEC_ISA_L_RS_CAUCHY, length, page_checksums(payload), sync
            )
            futures.append(to.call(_PUT, wire.encode(put), payload, deadline_s))
        return futures

    def _place(self, blob_id: bytes) -> tuple[int, ...]:
        width = self.geometry.width
        nodes = self._nodes.for_write(width)
        if len(nodes) < width:
            raise NotEnoughNodes(len(nodes), width)
        return place(blob_id, nodes, width)

    def _logs(self, placed: tuple[int, ...]) -> list["_NodeLog"]:
        logs = []
        for number in placed:
            link = self._nodes.link(number)
            assert link is not None, "placed on a node without a link"
            logs.append(_NodeLog(number, link))
        return logs

    def _receipt(self, blob_id: bytes, size: int, placed: tuple[int, ...], stripes: int) -> Receipt:
        geometry = self.geometry
        return Receipt(blob_id, size, geometry.k, geometry.m, geometry.stripe_bytes, placed, stripes)

    def _receipt_of(self, upload: "_Upload") -> Receipt:
        placed = tuple([log.node for log in upload.logs])
        return self._receipt(upload.blob_id, upload.size, placed, upload.stripes)

    def _abandon(self, receipt: Receipt) -> None:
        if self._on_abandoned is not None:
            self._on_abandoned(receipt)


class _InFlight(NamedTuple):
    """A stripe whose shards were sent: replies by shard, its length, whether a sync travelled along."""

    futures: list["asyncio.Future[wire.Frame]"]
    stripe_bytes: int
    sync: bool


class _Upload:
    """The state of one `write`."""

    __slots__ = ("blob_id", "held_bytes", "in_flight", "logs", "size", "size_hint", "stripes")

    def __init__(self, blob_id: bytes, size_hint: int) -> None:
        self.blob_id = blob_id
        self.size_hint = size_hint
        self.size = 0  # bytes sent
        self.stripes = 0  # stripes sent
        self.logs: list[_NodeLog] = []  # by shard
        self.in_flight: deque[_InFlight] = deque()
        self.held_bytes = 0  # of the budget


class _NodeLog:
    """How far one upload got in one node's log, and how far that is durable (S1)."""

    __slots__ = ("_link", "_sync", "incarnation", "node", "position", "synced", "unsynced_bytes")

    def __init__(self, node: int, link: Link) -> None:
        self.node = node
        self.incarnation: int | None = None
        self.position = 0  # highest acknowledged
        self.synced = 0  # highest known durable
        self.unsynced_bytes = 0  # acknowledged since the last sync was asked for
        self._link = link
        self._sync: asyncio.Future[wire.Frame] | None = None

    def note(self, appended: wire.Appended, *, synced: bool) -> None:
        """Take in an acknowledgement. Raises NodeRestarted when the node is not the one we began with."""
        if self.incarnation is None:
            self.incarnation = appended.incarnation
        self._check(appended.incarnation)
        self.position = max(self.position, appended.position)
        if synced:
            self.synced = max(self.synced, appended.position)

    def ask_sync(self, deadline_s: float) -> None:
        """Ask for a sync of all that is acknowledged so far. Raises LinkDown, LinkBusy."""
        assert self.incarnation is not None
        header = wire.encode(wire.Sync(self.incarnation, self.position))
        self._sync = self._link.call(_SYNC, header, None, deadline_s)
        self.unsynced_bytes = 0

    async def sync_done(self) -> None:
        """Wait for the sync that was asked for, if any. Raises LinkError; NodeRestarted says why."""
        if self._sync is None:
            return
        sync, self._sync = self._sync, None
        synced = wire.decode_synced((await sync).header)
        self._check(synced.incarnation)
        self.synced = max(self.synced, synced.position)

    def _check(self, incarnation: int) -> None:
        if incarnation != self.incarnation:
            raise NodeRestarted(f"node {self.node} restarted during the upload")
