"""Long operations as the catalog keeps them: what begins one, how far it is, what ends it, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from catalog import lookup as catalog_lookup
from catalog import nodes, operations, placements, schema, work
from catalog.engine import Catalog
from catalog.model import FaultReport, Run
from catalog.statement import Statement
from catalog.transaction import Transaction
from cluster.headway import blobs_naming
from cluster.membership import Membership, MembershipRefused
from cluster.operations import (
    NoSuchOperation,
    Operation,
    cancel,
    finish_due,
    get,
    listed,
    resume_repair,
    start_drain,
    start_recovery,
    start_scrub,
)
from cluster.steward import progress
from cluster.steward.progress import PAUSE_MS_MAX, RepairPause, ScrubProgress, ScrubRequest
from compose.data_dir import DataDir
from tests.catalog.fresh import fresh_catalog
from tests.cluster.test_membership import CLUSTER_ID, Store

T = TypeVar("T")
BLOB = 12 * b"\0"


class Office(Store):
    """A store with what operators ask for and what a steward writes down."""

    async def tx(self, function: Callable[[Transaction], T]) -> T:
        return await self.catalog.write(function)

    async def drain(self, name: str) -> Operation:
        return await self.tx(lambda tx: start_drain(tx, self.data, 3, name))

    async def recover(self, name: str, *, lost: bool = False, directory: Path | None = None) -> Operation:
        return await self.tx(
            lambda tx: start_recovery(tx, self.data, 3, name, lost=lost, directory=directory)
        )

    async def look(self, number: int) -> Operation:
        """After a steward has looked."""
        await self.tx(finish_due)
        return await self.catalog.read(lambda reader: get(reader, number))

    async def refuses(self, begin: Callable[[], object], *parts: str) -> None:
        """Refused, and nothing is changed or begun."""
        before = await self.rows(), await self.events()
        with pytest.raises(MembershipRefused) as refusal:
            await begin()  # type: ignore[misc]
        assert (await self.rows(), await self.events()) == before
        assert await self.catalog.read(lambda reader: listed(reader, 10)) == []
        assert all(part in str(refusal.value) for part in parts), str(refusal.value)

    async def blob_id(self) -> bytes:
        return (await self.catalog.meta()).upload_epoch.to_bytes(4, "big") + BLOB

    async def move(self, *layout: int, runs: tuple[Run, ...] = ()) -> None:
        """As the steward does when all copies are there."""
        old = await catalog_lookup.blob(self.catalog, await self.blob_id())
        assert old is not None
        assert await self.tx(lambda tx: placements.move(tx, old.id, old=old, nodes=layout, runs=runs))

    async def report(self, *faults: FaultReport) -> None:
        blob_id = await self.blob_id()
        await self.tx(lambda tx: work.report_faults(tx, blob_id, faults))

    async def scrubbed(self, state: ScrubProgress) -> None:
        await self.tx(lambda tx: progress.write(tx, state))

    async def request(self) -> int:
        asked = await self.catalog.read(lambda reader: progress.read(reader, ScrubRequest))
        return asked.number if asked else 0

    async def scrub_state(self) -> ScrubProgress:
        return await self.catalog.read(lambda r: progress.read(r, ScrubProgress)) or ScrubProgress()

    async def is_paused(self) -> bool:
        return await self.tx(lambda tx: progress.paused_until(tx, tx.now_ms)) is not None


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Office]:
    """Three nodes that are up."""
    fresh_catalog(DataDir(tmp_path).catalog, cluster_id=CLUSTER_ID)
    catalog = Catalog.open(DataDir(tmp_path).catalog)
    await catalog.start()
    made = Office(tmp_path, catalog)
    for number in (1, 2, 3):
        await made.add_up(f"node-{number}")
    yield made
    await catalog.close()


def lose(store: Office, name: str) -> None:
    shutil.rmtree(store.data.root / name)


async def test_a_drain_is_done_when_its_node_is_empty(store: Office) -> None:
    """Red when a drain counted as done while deleted blobs still lie on its node."""
    await store.add_up("node-4")
    await store.store_blob((1, 2, 3))
    begun = await store.drain("node-1")
    assert (begun.kind, begun.node, begun.state, begun.total, begun.done) == (
        "drain",
        "node-1",
        "running",
        1,
        0,
    )
    assert (await store.drain("node-1")).id == begun.id, "it is not begun twice"
    assert (await store.look(begun.id)).state == "running"
    await store.delete_blob()
    left = await store.look(begun.id)
    assert (left.state, left.done) == ("running", 1)
    assert "grace" in left.detail
    await store.tx(lambda tx: tx.execute(_FORGET_BLOBS))
    done = await store.look(begun.id)
    assert (done.state, done.total, done.done) == ("done", 1, 1)
    assert done.finished_ms is not None
    assert (await store.events())[-1] == "drain-done"
    await store.do(lambda members: members.remove("node-1"))


_FORGET_BLOBS = Statement(schema.blobs.delete())


async def test_a_drain_moves_on_with_each_blob_and_is_taken_back(store: Office) -> None:
    await store.add_up("node-4")
    await store.store_blob((1, 2, 3))
    begun = await store.drain("node-1")
    taken_back = await store.tx(lambda tx: cancel(tx, begun.id))
    assert (taken_back.state, taken_back.nodes_changed) == ("cancelled", True)
    assert (await store.rows())["node-1"].state == nodes.UP
    assert (await store.events())[-2:] == ["node-undrained", "drain-cancelled"]
    again = await store.drain("node-1")
    assert again.id != begun.id
    await store.do(lambda members: members.undrain("node-1"))
    assert (await store.look(again.id)).state == "cancelled"
    third = await store.drain("node-1")
    await store.move(4, 2, 3)
    assert (await store.look(third.id)).state == "done"


async def test_what_is_down_with_its_data_must_be_started(store: Office) -> None:
    await store.set("node-2", nodes.DOWN)
    await store.refuses(lambda: store.recover("node-2"), "is down", "start its process", "--lost")
    await store.refuses(lambda: store.recover("node-9"), "there is no node node-9", "node-1, node-2, node-3")
    await store.refuses(lambda: store.recover("node-1", directory=store.data.root / "x"), "has its data")
    await store.refuses(lambda: store.recover("node-1", lost=True), "is not lost")


async def test_p2_a_node_whose_data_is_gone_is_rebuilt_at_once(store: Office) -> None:
    """Though health has not seen yet that it is down. Red when an operation counted as done while the new node was
    not up, and when one was begun anew for the node that is being recovered already."""
    await store.store_blob((1, 2, 3))
    lose(store, "node-2")
    begun = await store.recover("node-2")
    assert (begun.kind, begun.node, begun.total, begun.nodes_changed) == ("recovery", "node-2", 1, True)
    rows = await store.rows()
    assert (rows["node-2"].number, rows["node-2"].state, rows["node-2#2"].state) == (4, "joining", "removed")
    waits = await store.look(begun.id)
    assert (waits.state, waits.done) == ("running", 0)
    assert "waiting for node-2, which is joining" in waits.detail
    again = await store.recover("node-2")
    assert (again.id, again.nodes_changed) == (begun.id, False)
    await store.move(1, 4, 3)
    assert (await store.look(begun.id)).state == "running", "the new node is not up"
    await store.set("node-2", nodes.UP)
    done = await store.look(begun.id)
    assert (done.state, done.total, done.done) == ("done", 1, 1)
    events = await store.events()
    assert events[-1] == "recovery-done"
    assert events.index("node-replaced") < events.index("recovery-started")


async def test_one_that_is_down_is_given_up_only_when_that_is_said(store: Office) -> None:
    await store.set("node-2", nodes.DOWN)
    begun = await store.recover("node-2", lost=True, directory=store.data.root / "disk-2")
    assert begun.nodes_changed
    assert (await store.rows())["node-2"].directory == "disk-2"


async def test_p2_data_that_is_out_of_sight_and_needed_is_given_up_only_when_that_is_said(
    store: Office,
) -> None:
    """Two disks are not mounted: whichever is recovered first, its node would be replaced for good, and the objects
    with it. Red when a directory that is not to be seen alone meant that the data is gone."""
    await store.store_blob((1, 2, 3))
    for name in ("node-2", "node-3"):
        (store.data.root / name).rename(store.data.root / f"unmounted {name}")
        await store.set(name, nodes.DOWN)
    await store.refuses(lambda: store.recover("node-2"), "not in", "mount its disk", "--lost")
    await store.refuses(
        lambda: store.recover("node-2", directory=store.data.root / "disk-2"), "mount its disk", "--lost"
    )
    (store.data.root / "unmounted node-3").rename(store.data.root / "node-3")
    await store.set("node-3", nodes.UP)
    assert (await store.recover("node-2")).nodes_changed, "the others hold enough"
    await store.set("node-2", nodes.UP)
    lose(store, "node-3")
    await store.set("node-3", nodes.DOWN)
    with pytest.raises(MembershipRefused, match="mount its disk"):
        await store.recover("node-3")  # the other one is not rebuilt yet
    assert (await store.recover("node-3", lost=True)).nodes_changed, "nobody has to keep a node that is gone"


async def test_a_node_that_is_lost_again_is_rebuilt_with_all_it_ever_held(store: Office) -> None:
    """Red when the second recovery knew only of the blobs of the second node."""
    await store.store_blob((1, 2, 3))
    lose(store, "node-2")
    first = await store.recover("node-2")
    await store.set("node-2", nodes.UP)
    await store.move(1, 2, 3, runs=(Run(5, (1, 4, 3)),))
    second = await store.recover("node-2")
    assert second.total == 2, "one for each node that is gone"
    assert (await store.look(first.id)).state == "cancelled"
    assert (await store.look(second.id)).state == "running"
    assert [op.id for op in await store.catalog.read(lambda r: listed(r, 10, "node-2"))] == [
        second.id,
        first.id,
    ]
    assert await store.catalog.read(lambda r: listed(r, 10, "node-1")) == []


async def test_a_joining_node_has_nothing_to_recover(store: Office) -> None:
    await store.do(lambda members: members.add(store.data.root / "node-4"))
    await store.refuses(lambda: store.recover("node-4"), "holds nothing")


async def test_one_that_is_up_is_read_and_repaired(store: Office) -> None:
    """Red when an operation counted as done while what its scrub found was still in the queue, and when it did not
    wait for the pass that it had asked for."""
    await store.store_blob((1, 2, 3))
    begun = await store.recover("node-2")
    assert (begun.total, begun.nodes_changed) == (1, False)
    request = await store.request()
    assert request > 0
    await store.scrubbed(ScrubProgress(passes=3, finished_ms=1, request=request - 1))
    assert (await store.look(begun.id)).state == "running"
    await store.scrubbed(ScrubProgress(active=True, request=request, deep=True))
    assert (await store.look(begun.id)).done == 0
    await store.report(FaultReport(0, 1, 2, "corrupt"))
    await store.scrubbed(ScrubProgress(passes=4, blobs=1, request=request, deep=True))
    found = await store.look(begun.id)
    assert (found.state, found.done, found.detail) == ("running", 1, "1 blobs are in the repair queue")
    blob_id = await store.blob_id()
    await store.tx(lambda tx: work.repaired(tx, blob_id))
    assert (await store.look(begun.id)).state == "done"


async def test_damage_elsewhere_does_not_hold_up_a_recovery(store: Office) -> None:
    await store.store_blob((1, 2, 3))
    begun = await store.recover("node-2")
    await store.report(FaultReport(0, 0, 1, "corrupt"))
    await store.scrubbed(ScrubProgress(blobs=1, request=await store.request()))
    assert (await store.look(begun.id)).state == "done"


@pytest.mark.parametrize("gone", [True, False])
async def test_p2_what_cannot_be_rebuilt_makes_a_recovery_fail(store: Office, gone: bool) -> None:
    """Rather than to run for ever. Red when it was taken for done, or waited for."""
    await store.store_blob((1, 2, 3))
    if gone:
        lose(store, "node-2")
    begun = await store.recover("node-2")
    await store.set("node-2", nodes.UP)
    await store.report(FaultReport(0, 0, 0, "unreadable"), FaultReport(0, 0, 1, "missing"))
    if not gone:
        assert (await store.look(begun.id)).state == "running"
        await store.scrubbed(ScrubProgress(blobs=1, request=await store.request()))
    failed = await store.look(begun.id)
    assert failed.state == "failed"
    assert "1 blobs can't be rebuilt" in failed.detail
    assert (await store.events())[-1] == "recovery-failed"


async def test_a_cancelled_rebuild_pauses_and_deletes_nothing(store: Office) -> None:
    await store.store_blob((1, 2, 3))
    lose(store, "node-2")
    begun = await store.recover("node-2")
    before = await store.rows()
    assert (await store.tx(lambda tx: cancel(tx, begun.id))).state == "cancelled"
    assert await store.is_paused()
    assert await store.rows() == before, "the replaced node stays replaced"
    with pytest.raises(MembershipRefused, match="is over: it is cancelled"):
        await store.tx(lambda tx: cancel(tx, begun.id))
    again = await store.recover("node-2")
    assert (again.total, again.id) == (1, begun.id + 1)
    assert not await store.is_paused()
    await store.tx(lambda tx: cancel(tx, again.id))
    assert await store.tx(resume_repair)
    assert not await store.tx(resume_repair)
    assert not await store.is_paused()
    events = await store.events()
    assert events.count("repair-paused") == events.count("repair-resumed") == 2


async def test_a_pause_of_a_wrong_clock_does_not_last(store: Office) -> None:
    """Red when any time ahead was believed."""
    for ahead_ms, paused in ((-1, False), (1000, True), (PAUSE_MS_MAX, True), (2 * PAUSE_MS_MAX, False)):

        def pause(tx: Transaction, ahead_ms: int = ahead_ms) -> int | None:
            progress.write(tx, RepairPause(tx.now_ms + ahead_ms))
            return progress.paused_until(tx, tx.now_ms)

        until = await store.tx(pause)
        assert (until is not None) == paused, ahead_ms


async def test_a_scrub_is_followed_to_its_end(store: Office) -> None:
    await store.store_blob((1, 2, 3))
    begun = await store.tx(start_scrub)
    assert (begun.kind, begun.node, begun.total) == ("scrub", None, 1)
    assert (await store.tx(start_scrub)).id == begun.id, "it has not begun"
    request = await store.request()
    await store.scrubbed(ScrubProgress(active=True, request=request, deep=True))
    other = await store.tx(start_scrub)
    assert other.id != begun.id, "it has looked at some places already"
    later = await store.request()
    await store.scrubbed(ScrubProgress(blobs=1, missing=2, request=later, deep=True))
    for number in (begun.id, other.id):
        done = await store.look(number)
        assert (done.state, done.done, done.total) == ("done", 1, 1)
        assert done.detail == "2 blocks missing, 0 bad, 0 to spare"


async def test_a_cancelled_scrub_ends_unless_it_is_waited_for(store: Office) -> None:
    """Red when the cancelled pass of one operation ended the recovery that waits for it."""
    begun = await store.tx(start_scrub)
    recovery = await store.recover("node-1")
    going = ScrubProgress(active=True, request=await store.request(), deep=True, blobs=5)
    await store.scrubbed(going)
    await store.tx(lambda tx: cancel(tx, begun.id))
    assert await store.scrub_state() == going
    await store.tx(lambda tx: cancel(tx, recovery.id))
    state = await store.scrub_state()
    assert (state.active, state.cancelled, state.request) == (False, True, going.request)
    assert state.finished_ms > 0
    assert (await store.events())[-1] == "recovery-cancelled"


async def test_a_scrub_that_has_not_begun_is_cancelled(store: Office) -> None:
    """Its request counts as honoured, and the regular pass under way goes on."""
    await store.scrubbed(ScrubProgress(active=True, after=b"x"))
    begun = await store.tx(start_scrub)
    await store.tx(lambda tx: cancel(tx, begun.id))
    assert await store.scrub_state() == ScrubProgress(active=True, after=b"x", request=await store.request())


async def test_requests_rise_though_the_clock_goes_back(store: Office) -> None:
    """Red when they were the time: a pass for a later request must serve an earlier one."""
    await store.scrubbed(ScrubProgress(request=1 << 50))
    await store.tx(start_scrub)
    assert await store.request() == (1 << 50) + 1


async def test_only_the_last_are_kept_and_those_that_run(store: Office) -> None:
    first = await store.tx(start_scrub)

    def many(tx: Transaction) -> None:
        for _ in range(operations.KEPT + 5):
            row = operations.begin(tx, "scrub", None, b"\x80")
            operations.update(tx, row, state="done", memo=row.memo)

    await store.tx(many)
    found = await store.catalog.read(lambda reader: listed(reader, 5000))
    assert len(found) == operations.KEPT + 1
    assert found[-1].id == first.id
    with pytest.raises(NoSuchOperation):
        await store.catalog.read(lambda reader: get(reader, first.id + 1))
    with pytest.raises(NoSuchOperation):
        await store.tx(lambda tx: cancel(tx, first.id + 1))


async def test_blobs_of_any_run_are_counted(store: Office) -> None:
    await store.add_up("node-4")
    await store.store_blob((1, 2, 3))
    await store.move(1, 2, 3, runs=(Run(5, (1, 4, 3)), Run(9, (1, 4, 3))))

    async def count(*numbers: int) -> int | None:
        return await store.catalog.read(lambda reader: blobs_naming(reader, numbers))

    assert [await count(1), await count(2), await count(4), await count(9)] == [2, 1, 1, 0]


async def test_what_a_steward_saw_before_an_operation_ended_changes_nothing(store: Office) -> None:
    """The look was a read of its own. Red when it wrote `running` over `cancelled`."""
    from cluster.headway import look

    await store.store_blob((1, 2, 3))
    lose(store, "node-2")
    begun = await store.recover("node-2")
    seen = await store.catalog.read(lambda reader: look(reader, 0))
    assert [each.is_news for each in seen] == [True]
    await store.tx(lambda tx: cancel(tx, begun.id))
    assert await store.tx(lambda tx: finish_due(tx, seen)) == []
    assert (await store.catalog.read(lambda reader: get(reader, begun.id))).state == "cancelled"


async def test_membership_is_as_it_was_for_who_asks(store: Office) -> None:
    """`has_data` is what recovery goes by."""

    def ask(tx: Transaction) -> list[bool]:
        members = Membership(store.data, tx, 3)
        return [members.has_data(members.row(f"node-{n}")) for n in (1, 2, 3)]

    lose(store, "node-3")
    assert await store.tx(ask) == [True, True, False]
