"""Breaks things, within the budget: whatever it does, each stripe keeps k good shards on the disks (STYLE 23)."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from catalog.model import BlobRow
from cluster.placement import copies
from codec.block import BlockKey, header_bytes, pack_key
from codec.geometry import Geometry
from tests.cluster.node.memory_disk import Trap
from tests.sim.catalog_loss import CatalogLoss
from tests.sim.clocks import WallClocks
from tests.sim.loop import SimLoop
from tests.sim.membership import Membership
from tests.sim.network import Network
from tests.sim.node import SimNode
from tests.sim.processes import Service, SimFront, SimSteward
from tests.sim.truth import Truth, Violation

_NODES_MAX = 8
_JUMPS_S = (2, 15, 90, 3600, 3 * 86400)
_AFTERMATH_S = 15.0  # how long a process may take to trust a node again


@dataclass(slots=True)
class _Trouble:
    """Something is wrong with a node, or (None) elsewhere."""

    node: int | None
    ended: float = float("inf")


class Nemesis:
    """`run` breaks something now and then until it is cancelled; `heal` mends what can be mended."""

    def __init__(
        self,
        loop: SimLoop,
        chance: random.Random,
        *,
        network: Network,
        nodes: Sequence[SimNode],
        fronts: Sequence[SimFront],
        stewards: Sequence[SimSteward],
        truth: Truth,
        clocks: WallClocks,
        membership: Membership,
        catalog_loss: CatalogLoss,
        note: Callable[[str], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._catalog_loss = catalog_loss
        self._fail = fail
        self._membership = membership
        self._clocks = clocks
        self._troubles: list[_Trouble] = []
        self._draining: SimNode | None = None
        self._leaves = False  # the draining node is to be removed
        self._spoiled_blobs: set[bytes] = set()
        self._loop = loop
        self._chance = chance
        self._network = network
        self._nodes = nodes  # those with a disk; the world adds new ones
        self._fronts = fronts
        self._stewards = stewards
        self._truth = truth
        self._note = note
        self._faults: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (4, self._kill_node),
            (4, self._power_cut),
            (4, self._power_cut_in_call),
            (3, self._freeze_node),
            (2, self._block_path),
            (3, self._cut_path),
            (2, self._slow_disk),
            (1, self._cold_cache),
            (2, self._failing_sync),
            (1, self._failing_write),
            (1, self._full_disk),
            (4, self._rot),
            (2, self._spoil),
            (2, self._kill_front),
            (1, self._freeze_front),
            (2, self._kill_steward),
            (2, self._freeze_steward),
            (1, self._power_cut_everywhere),
            (1, self._lose_disk),
            (1, self._drain),
            (1, self._add_node),
            (1, self._remove_node),
            (2, self._jump_clocks),
            (4, self._lose_catalog),
            (1, self._want_snapshot),
        ]
        self._tasks: list[asyncio.Task[None]] = []
        for node in nodes:
            self.watch(node)

    def watch(self, node: SimNode) -> None:
        """Hear of what its disk writes wrong."""
        node.disk.may_spoil = lambda key: self._may_spoil(node, key)
        node.disk.on_spoiled = lambda path, offset: self._spoiled(node, path, offset)

    async def run(self, pause_s: float) -> None:
        """Until cancelled."""
        weights = [weight for weight, _ in self._faults]
        while True:
            await asyncio.sleep(pause_s * (0.3 + 1.4 * self._chance.random()))
            fault = self._chance.choices(self._faults, weights)[0][1]
            self._tasks.append(asyncio.ensure_future(fault()))

    def may_refuse(self, since: float, m: int) -> bool:
        """Whether a request that began then had an excuse to fail: more than `m` nodes were away, or something
        else was wrong than nodes being away."""
        troubles = [t for t in self._troubles if t.ended > since - _AFTERMATH_S]
        return any(t.node is None for t in troubles) or len({t.node for t in troubles}) > m

    @contextmanager
    def _trouble(self, node: SimNode | None = None) -> Iterator[None]:
        trouble = _Trouble(None if node is None else node.number)
        self._troubles.append(trouble)
        try:
            yield
        finally:
            trouble.ended = self._loop.now

    def _for_ever(self) -> None:
        """Trouble of a kind that may still be felt at the end."""
        self._troubles.append(_Trouble(None))

    async def heal(self) -> None:
        """Everything runs again, on disks with room; what rotted stays rotten."""
        for task in self._tasks:
            task.cancel()
        for node in self._nodes:
            node.thaw()
            node.slow_s = 0.0
            node.disk.traps.clear()
            node.disk.spoil = node.disk.cold = False
            node.disk.fuse = None
            node.disk.capacity_bytes = 1 << 40
            for path in self._network.paths_to(node.address):
                path.open()
            if not node.alive and node.number not in self._truth.lost:
                node.start()
        for service in (*self._fronts, *self._stewards):
            if service.process.frozen:
                self._thaw(service)
            await self._revive(service)
        for node in [node for node in self._nodes if node.number in self._truth.lost]:
            await self._membership.replace(node)
        if self._catalog_loss.restored:
            await self._membership.allow_orphans()  # the storm may have ended before the operator came to it
        if not self._leaves:
            await self._end_drain()
        if self._chance.random() < 0.5:
            for service in (*self._fronts, *self._stewards):
                self._set_clock(service, 0)

    async def end_late_drains(self) -> None:
        """After `heal`: a `node drain` that was cut off may come through later than the `node undrain` behind it."""
        if self._draining is None:
            await self._membership.undrain_all()

    async def settle(self) -> str:
        """After `heal`, again and again: what an operator who began something does to end it; "" when done."""
        node = self._draining
        if node is None or node.number in self._truth.lost:
            return ""
        if await self._membership.remove(node):
            self._draining, self._leaves = None, False
            return ""
        return f"{node.name} can't be removed yet"

    # -- nodes -----------------------------------------------------------------------------------------------

    def _a_node(self) -> SimNode | None:
        """One that lives; now and then a second one beside one that does not."""
        hurt = [node for node in self._nodes if node.impaired]
        whole = [node for node in self._nodes if not node.impaired]
        if not whole or (hurt and self._chance.random() < 0.7):
            return None
        return self._chance.choice(whole)

    def _pause_s(self) -> float:
        return self._chance.choice((0.05, 0.5, 2.0, 6.0, 12.0)) * (0.5 + self._chance.random())

    async def _back_again(self, node: SimNode) -> None:
        await asyncio.sleep(self._pause_s())
        if not node.alive:
            node.start()

    async def _kill_node(self) -> None:
        if (node := self._a_node()) is not None:
            with self._trouble(node):
                node.crash(power=False)
                await self._back_again(node)

    async def _power_cut(self) -> None:
        if (node := self._a_node()) is not None:
            with self._trouble(node):
                node.crash(power=True)
                await self._back_again(node)

    async def _power_cut_in_call(self) -> None:
        if (node := self._a_node()) is not None:
            node.disk.fuse = self._chance.randint(1, 12)
            self._note(f"{node.name} will lose power in call {node.disk.fuse}")
            with self._trouble(node):
                while node.disk.fuse is not None and node.alive:
                    await asyncio.sleep(0.5)
                await self._back_again(node)

    async def _power_cut_everywhere(self) -> None:
        with self._trouble():
            await self._all_off()

    async def _all_off(self) -> None:
        for node in self._nodes:
            node.thaw()
            node.crash(power=True)
        for service in (*self._fronts, *self._stewards):
            service.kill()
        await asyncio.sleep(0.5)
        for node in self._nodes:
            if not node.alive:
                node.start()
        for service in (*self._fronts, *self._stewards):
            await self._revive(service)

    async def _freeze_node(self) -> None:
        if (node := self._a_node()) is not None:
            with self._trouble(node):
                node.freeze()
                await asyncio.sleep(self._pause_s())
                node.thaw()

    # -- the network -----------------------------------------------------------------------------------------

    async def _block_path(self) -> None:
        service: Service = self._chance.choice((*self._fronts, *self._stewards))
        node = self._chance.choice(self._nodes)
        path = self._network.path(service.name, node.address)
        self._note(f"nothing passes between {service.name} and {node.name}")
        path.block()
        with self._trouble(node):
            await asyncio.sleep(self._pause_s())
        self._note(f"the path between {service.name} and {node.name} is open")
        path.open()

    async def _cut_path(self) -> None:
        node = self._chance.choice(self._nodes)
        self._note(f"connections to {node.name} break")
        with self._trouble(node):
            await asyncio.sleep(0)
        for path in self._network.paths_to(node.address):
            path.cut()

    # -- disks -----------------------------------------------------------------------------------------------

    async def _slow_disk(self) -> None:
        if (node := self._a_node()) is not None:
            node.slow_s = self._chance.choice((0.05, 0.4, 3.0))
            self._note(f"the disk of {node.name} takes {node.slow_s} s")
            with self._trouble(node):
                await asyncio.sleep(self._pause_s())
                node.slow_s = 0.0

    async def _cold_cache(self) -> None:
        """Reads have to wait for the disk: no reason for anything to fail."""
        node = self._chance.choice(self._nodes)
        self._note(f"the page cache of {node.name} is cold")
        node.disk.cold = True
        await asyncio.sleep(self._pause_s())
        node.disk.cold = False

    async def _failing_sync(self) -> None:
        node = self._chance.choice(self._nodes)
        self._note(f"a sync of {node.name} will fail")
        self._for_ever()  # nobody knows when
        node.disk.traps.append(Trap("fdatasync", errno.EIO, skip=self._chance.randint(0, 3)))

    async def _failing_write(self) -> None:
        node = self._chance.choice(self._nodes)
        short = self._chance.choice((None, 100, 1000))
        self._note(f"a write of {node.name} will fail after {short} bytes")
        self._for_ever()
        node.disk.traps.append(Trap("pwritev", errno.EIO, short=short))

    async def _full_disk(self) -> None:
        node = self._chance.choice(self._nodes)
        disk = node.disk
        disk.capacity_bytes = sum(len(file.live) for file in disk.files.values()) + self._chance.randint(
            0, 9000
        )
        self._note(f"the disk of {node.name} fills up")
        with self._trouble(node):
            await asyncio.sleep(self._pause_s())
        disk.capacity_bytes = 1 << 40
        self._note(f"the disk of {node.name} has room")

    async def _rot(self) -> None:
        """A block that the catalog names changes on the platter, if its stripe can bear it."""
        for _ in range(8):
            if self._rot_one():
                return

    def _rot_one(self) -> bool:
        truth, chance = self._truth, self._chance
        truth.look()
        if not truth.blobs:
            return False
        blob = truth.blobs[chance.choice(sorted(truth.blobs))]
        geometry = Geometry(blob.k, blob.m, blob.stripe_bytes)
        stripe = chance.randrange(geometry.stripe_count(blob.size))
        lying = copies(blob.nodes_at(stripe), blob.k + blob.m)
        shard, number = chance.choice(lying)
        key = BlockKey(blob.id, stripe, shard)
        node = next((node for node in self._nodes if node.number == number), None)
        entry = None if node is None else node.entry(pack_key(key))
        if node is None or entry is None or len(self._good_beside(blob, key, number)) < blob.k:
            return False
        path = node.file_of(entry)
        offset = entry.offset + chance.randrange(header_bytes(entry.payload_length) + entry.payload_length)
        cached = chance.random() < 0.5
        self._note(f"{blob.id.hex()} stripe {stripe} shard {shard} rots on {node.name}, cached {cached}")
        self._for_ever()
        truth.excused.add((number, path, entry.offset))
        node.disk.rot(path, offset, cached=cached)
        return True

    async def _spoil(self) -> None:
        node = self._chance.choice(self._nodes)
        if any(other.disk.spoil for other in self._nodes):
            return
        node.disk.spoil = True

    def _may_spoil(self, node: SimNode, key: BlockKey) -> bool:
        """One block a blob that is not committed yet; of others, as `_rot`."""
        blob = self._truth.blobs.get(key.blob)
        if blob is None:
            if key.blob in self._spoiled_blobs:
                return False
        elif len(self._good_beside(blob, key, node.number)) < blob.k:
            return False
        self._spoiled_blobs.add(key.blob)
        return True

    def _good_beside(self, blob: BlobRow, key: BlockKey, node: int) -> set[int]:
        """Shards of that stripe that are good without this copy, as far as the layout names them."""
        lying = self._truth.lying_well(blob, key.stripe)
        return {shard for shard, holder in lying if (shard, holder) != (key.shard, node)}

    def _spoiled(self, node: SimNode, path: Path, offset: int) -> None:
        self._note(f"a block of {node.name} is written wrong at {offset}")
        self._for_ever()
        self._truth.excused.add((node.number, path, offset))
        self._truth.born_bad.add((node.number, path, offset))

    # -- membership ------------------------------------------------------------------------------------------

    async def _lose_disk(self) -> None:
        """A disk is gone for good and its node is replaced, if every blob can bear it (S23)."""
        truth = self._truth
        node = self._chance.choice(self._nodes)
        truth.look()
        if truth.lost or not all(self._bears_loss_of(node.number, blob) for blob in truth.blobs.values()):
            return
        if any(other.impaired for other in self._nodes):
            return
        self._for_ever()
        self._note(f"the disk of {node.name} is lost")
        truth.lose(node.number, self._loop.now)
        node.crash(power=True)
        await asyncio.sleep(self._pause_s() / 4)
        await self._membership.replace(node)

    def _bears_loss_of(self, node: int, blob: BlobRow) -> bool:
        """Also where what rotted on another one is still to be seen whole in its page cache."""
        geometry = Geometry(blob.k, blob.m, blob.stripe_bytes)
        return all(
            len({shard for shard, holder in self._truth.lying_well(blob, stripe) if holder != node}) >= blob.k
            for stripe in range(geometry.stripe_count(blob.size))
        )

    async def _drain(self) -> None:
        node = self._chance.choice(self._nodes)
        if self._draining is not None:
            return
        self._draining = node
        with self._trouble():
            await self._membership.set_state(node, "draining")
            await asyncio.sleep(self._pause_s() * 2)
            await self._end_drain()

    async def _add_node(self) -> None:
        """No reason for anything to fail."""
        if len(self._nodes) < _NODES_MAX:
            await self._membership.add()

    async def _remove_node(self) -> None:
        """First it is drained."""
        node = self._chance.choice(self._nodes)
        if self._draining is not None or not await self._membership.may_leave(node):
            return
        self._draining, self._leaves = node, True
        with self._trouble(node):
            await self._membership.set_state(node, "draining")
            while await self.settle():
                await asyncio.sleep(0.5 + self._chance.random())

    async def _end_drain(self) -> None:
        """The operator changes their mind."""
        node = self._draining
        if node is not None and node.number not in self._truth.lost:
            await self._membership.set_state(node, "up")
        self._draining = None

    # -- the catalog -------------------------------------------------------------------------------------------

    async def _lose_catalog(self) -> None:
        """What was answered is there again; orphans are collected again when the operator says so (S18)."""
        try:
            if not self._catalog_loss.strike():
                return
        except Violation as violation:
            self._fail(violation)
            return
        with self._trouble():
            for service in (*self._fronts, *self._stewards):
                await self._revive(service)
            await self._membership.allow_orphans()

    async def _want_snapshot(self) -> None:
        """In the middle of everything."""
        await self._membership.want_snapshot()

    # -- clocks ----------------------------------------------------------------------------------------------

    async def _jump_clocks(self) -> None:
        """Of one process or of all, by seconds or by days; now and then somebody mends it."""
        services: list[Service] = [*self._fronts, *self._stewards]
        if self._chance.random() < 0.7:
            services = [self._chance.choice(services)]
        by_ms = self._chance.choice(_JUMPS_S) * self._chance.choice((1000, -1000))
        before = [(service, self._clocks.ahead_ms(service.name)) for service in services]
        for service, ahead_ms in before:
            self._set_clock(service, ahead_ms + by_ms)
        await asyncio.sleep(self._pause_s())
        if self._chance.random() < 0.5:
            for service, ahead_ms in before:
                self._set_clock(service, ahead_ms)

    def _set_clock(self, service: Service, ahead_ms: int) -> None:
        if self._clocks.ahead_ms(service.name) != ahead_ms:
            self._note(f"the clock of {service.name} is {ahead_ms} ms ahead")
            self._clocks.set(service.name, ahead_ms)

    # -- fronts and stewards -----------------------------------------------------------------------------------

    async def _kill(self, service: Service) -> None:
        if service.alive:
            service.kill()
            await asyncio.sleep(self._pause_s() / 4)
            await self._revive(service)

    @staticmethod
    async def _revive(service: Service) -> None:
        if not service.alive:
            await service.start()

    async def _kill_front(self) -> None:
        await self._kill(self._chance.choice(self._fronts))

    async def _kill_steward(self) -> None:
        await self._kill(self._chance.choice(self._stewards))

    async def _freeze(self, service: Service) -> None:
        if service.alive and not service.process.frozen:
            self._note(f"{service.name} freezes")
            with self._trouble():
                service.process.freeze()
                await asyncio.sleep(self._pause_s() * 2)
                self._thaw(service)

    def _thaw(self, service: Service) -> None:
        if service.alive and service.process.frozen:
            self._note(f"{service.name} thaws")
            service.process.thaw()

    async def _freeze_front(self) -> None:
        await self._freeze(self._chance.choice(self._fronts))

    async def _freeze_steward(self) -> None:
        await self._freeze(self._chance.choice(self._stewards))
