"""S17: a batch of the catalog is on enough nodes when it is answered, whatever happens to one of them."""

import asyncio
import functools
import os
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from catalog.errors import CatalogBusy
from catalog.log_records import LogRecord, LogUnreadable
from cluster import wire
from cluster.catalog_log import CatalogLog, LogEntry
from cluster.catalog_log_source import DirectoryLogSource, LinkLogSource
from cluster.handshake import ServerHandshake
from cluster.log_names import BATCH, PIECE_BYTES, LogEntryName
from cluster.node.identity import NodeRefused
from cluster.topology import NodeInfo, NodeSet
from tests.cluster.conftest import connect, until
from tests.cluster.node import node_bench
from tests.cluster.node.node_client import served
from tests.cluster.nodes import CLUSTER_ID, SECRET, RealNodes

pytestmark = pytest.mark.usefixtures("silent_loop")

CATALOG = b"k" * 16


def made(batch: int, size: int = 200, term: int = 1) -> LogRecord:
    return LogRecord(term, batch, random.Random(batch).randbytes(size))


def name(batch: int, term: int = 1) -> LogEntryName:
    return LogEntryName(BATCH, term, batch, 0)


async def no_other_term() -> int:
    return 0


def sink_of(nodes: NodeSet, copies: int = 2) -> CatalogLog:
    return CatalogLog(nodes, copies, read_term=no_other_term)


@pytest_asyncio.fixture
async def own(own_nodes: RealNodes) -> AsyncIterator[NodeSet]:
    """Links to nodes that the test may kill."""
    async with connect(own_nodes) as node_set:
        assert await node_set.wait_up(10) == 3
        yield node_set


async def held_by(nodes: NodeSet, number: int) -> list[int]:
    """The batches that a node lists."""
    link = nodes.link(number)
    assert link is not None
    ask = wire.encode(wire.LogStatusRequest(b"", wire.LOG_STATUS_MAX))
    reply = await link.call(int(wire.Op.LOG_STATUS), ask, None, 5.0)
    return [fields[2] for fields in wire.decode_log_status(reply.header).names]


async def held(nodes: NodeSet, numbers: Sequence[int] = (1, 2, 3)) -> dict[int, list[int]]:
    return {number: await held_by(nodes, number) for number in numbers}


async def test_a_batch_lies_on_the_two_lowest_nodes(own: NodeSet) -> None:
    sink = sink_of(own)
    assert sink.ready
    for batch in range(1, 4):
        await sink.append(CATALOG, [made(batch)])
    await sink.append(CATALOG, [made(4), made(5)])
    found = await held(own)  # the third may have some too, on a day when the others are slow
    assert found[1] == found[2] == [1, 2, 3, 4, 5]


async def test_the_next_node_takes_the_place_of_one_that_is_lost(own_nodes: RealNodes, own: NodeSet) -> None:
    """Red when a lost node is not replaced within the same append."""
    sink = sink_of(own)
    await sink.append(CATALOG, [made(1)])
    appends = [asyncio.ensure_future(sink.append(CATALOG, [made(batch)])) for batch in range(2, 12)]
    await asyncio.sleep(0)
    own_nodes[1].kill()
    await asyncio.gather(*appends)
    await sink.append(CATALOG, [made(12)])
    assert sink.ready
    found = await held(own, (2, 3))
    assert found[2] == list(range(1, 13))
    assert found[3][-1] == 12
    own_nodes[2].kill()
    link = own.link(2)
    assert link is not None
    await until(lambda: not link.up and not sink.ready, "node 2 is lost")
    with pytest.raises(CatalogBusy, match="2 nodes"):
        await sink.append(CATALOG, [made(13)])


async def test_a_frozen_node_is_not_waited_for(own_nodes: RealNodes, own: NodeSet) -> None:
    """Red when an append waits for the deadline, or when a stalled node is asked first again."""
    sink = sink_of(own)
    for batch in range(1, 30):
        await sink.append(CATALOG, [made(batch)])
    own_nodes[1].freeze()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await sink.append(CATALOG, [made(30)])
    first_s = loop.time() - began
    frozen = own.link(1)
    assert frozen is not None
    await until(lambda: frozen.is_stalled(writing=True), "node 1 is stalled")
    assert sink.candidates()[-1] == 1
    began = loop.time()
    for batch in range(31, 41):
        await sink.append(CATALOG, [made(batch)])
    then_s = loop.time() - began
    assert first_s < 1.0
    assert then_s < 1.0
    assert (await held_by(own, 3))[-11:] == list(range(30, 41))
    own_nodes[1].thaw()


async def test_a_late_answer_counts_when_there_is_no_other_node(own_nodes: RealNodes, own: NodeSet) -> None:
    """Red when a late node is given up."""
    own_nodes[3].kill()
    gone = own.link(3)
    assert gone is not None
    await until(lambda: not gone.up, "node 3 is lost")
    sink = sink_of(own)
    await sink.append(CATALOG, [made(1)])
    own_nodes[1].freeze()
    late = asyncio.ensure_future(sink.append(CATALOG, [made(2)]))
    frozen = own.link(1)
    assert frozen is not None
    await until(lambda: frozen.is_stalled(writing=True), "node 1 is stalled")
    own_nodes[1].thaw()
    await late
    assert await held(own, (1, 2)) == {1: [1, 2], 2: [1, 2]}


async def test_s18_a_catalog_that_was_restored_elsewhere_is_refused(own: NodeSet) -> None:
    """Two nodes obey a higher term: unless our own catalog knows it too, it is not ours any more.

    Red when our term is not asked for again.
    """
    theirs = sink_of(own)
    await theirs.append(CATALOG, [made(5, term=3)])
    with pytest.raises(CatalogBusy, match="obeys catalog"):
        await sink_of(own, copies=3).append(CATALOG, [made(6, term=2)])

    async def now_three() -> int:
        return 3

    ours = CatalogLog(own, 2, read_term=now_three)  # a steward of ours raised it
    await ours.append(CATALOG, [made(4, term=2)])
    assert await held(own, (1, 2)) == {1: [4, 5], 2: [4, 5]}


async def test_a_large_batch_comes_in_pieces(own_nodes: RealNodes, own: NodeSet) -> None:
    big = made(1, 5 * PIECE_BYTES + 17)
    await sink_of(own).append(CATALOG, [big, made(2)])
    found = await held(own)
    holder = next(
        n for n, batches in found.items() if batches == [1] * 6 + [2]
    )  # of slow ones it may be the third
    own_nodes[holder].kill()
    with DirectoryLogSource(own_nodes[holder].directory) as source:
        assert source.names() == [name(1), name(2)]
        assert source.read(name(1)) == big.payload


async def test_more_answers_at_once_than_are_missing(own_nodes: RealNodes, own: NodeSet) -> None:
    """Two nodes are late, a third was asked too, and all answer in the same moment. Red when only exactly as many as
    were missing are enough: the append then fails although every node has stored it."""
    sink = sink_of(own)
    replies: list[asyncio.Future[wire.Frame]] = []

    def call(*_: object) -> "asyncio.Future[wire.Frame]":
        replies.append(asyncio.get_running_loop().create_future())
        return replies[-1]

    for link in (own.link(1), own.link(2), own.link(3)):
        link.call = call  # type: ignore[method-assign,union-attr]
    entry = LogEntry(name(1), b"payload")
    storing = asyncio.ensure_future(sink.store(CATALOG, 1, [entry], 30.0))
    await until(lambda: len(replies) == 3, "the third node is asked")
    for reply in replies:
        reply.set_result(wire.Frame(0, 0, 0, 0, b"", b""))
    await asyncio.wait_for(storing, 1.0)


async def test_s25_a_node_of_the_release_before_is_passed_over(own_nodes: RealNodes, own: NodeSet) -> None:
    """Red when it counts as able."""
    old = own.link(1)
    assert old is not None
    old.version = wire.VERSION_LOG - 1
    await sink_of(own).append(CATALOG, [made(1)])
    assert await held(own) == {1: [], 2: [1], 3: [1]}
    assert not sink_of(own, copies=3).ready


async def test_s25_links_know_the_version_that_was_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = functools.partial(ServerHandshake, versions=(1, 2))
    monkeypatch.setattr("cluster.node.connection.ServerHandshake", old)
    async with served(tmp_path) as node:
        address = "127.0.0.1", node.port
        info = NodeInfo(1, node.service.store.identity.node_id, "node-1", "r", "z", address)
        async with NodeSet.connecting(
            [info], secret=node_bench.SECRET, cluster_id=node_bench.CLUSTER, role=wire.Role.FRONT
        ) as nodes:
            assert await nodes.wait_up(10) == 1
            link = nodes.link(1)
            assert link is not None
            assert link.version == 2
            assert not sink_of(nodes, copies=1).ready


async def test_a_directory_tells_what_a_running_node_tells(own_nodes: RealNodes, own: NodeSet) -> None:
    sink = sink_of(own)
    for batch in range(1, 6):
        await sink.append(CATALOG, [made(batch, term=2)])

    def over_the_wire() -> tuple[bytes, int, dict[LogEntryName, bytes]]:
        address = own_nodes[1].info.address
        with LinkLogSource(
            address, secret=SECRET, cluster_id=CLUSTER_ID, node_id=own_nodes[1].node_id
        ) as source:
            return source.catalog_id, source.term, {found: source.read(found) for found in source.names()}

    told = await asyncio.to_thread(over_the_wire)
    assert told == (CATALOG, 2, {name(n, 2): made(n).payload for n in range(1, 6)})
    directory = own_nodes[1].directory
    with pytest.raises(NodeRefused, match="in use"):
        DirectoryLogSource(directory)
    own_nodes[1].kill()
    for _ in range(2):
        before = sorted(os.listdir(directory))
        with DirectoryLogSource(directory) as source:
            read = {found: source.read(found) for found in source.names()}
            assert (source.catalog_id, source.term, read) == told
            with pytest.raises(LogUnreadable):
                source.read(name(9))
        assert sorted(os.listdir(directory)) == before
    own_nodes[1].damage(made(3).payload)
    with DirectoryLogSource(directory) as source, pytest.raises(LogUnreadable, match="checksum"):
        source.read(name(3, 2))
    own_nodes[1].start()


async def test_a_node_that_can_not_be_reached_says_so(own_nodes: RealNodes) -> None:
    own_nodes[1].kill()
    own_nodes[1]._socket.close()

    def ask() -> None:
        node = own_nodes[1]
        LinkLogSource(
            *(node.info.address,),
            secret=SECRET,
            cluster_id=CLUSTER_ID,
            node_id=node.node_id,
            connect_s_max=0.3,
        ).close()

    with pytest.raises(LogUnreadable):
        await asyncio.to_thread(ask)
