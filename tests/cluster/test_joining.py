"""Nodes that announce themselves: what is believed, what the catalog does with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from catalog import nodes
from catalog.engine import Catalog
from catalog.model import NodeRow
from cluster.announcement import (
    SKEW_S_MAX,
    Announcement,
    AnnouncementRefused,
    opened,
    seal,
)
from cluster.joining import join, settled
from cluster.membership import Membership, MembershipRefused
from compose.data_dir import DataDir
from tests.catalog.fresh import fresh_catalog

SECRET = b"s" * 32
NOW_S = 1_700_000_000.0
ID, OTHER_ID = "11" * 16, "22" * 16


def announced(node_id: str = ID, name: str = "far", host: str = "10.0.0.5", port: int = 9100) -> Announcement:
    return Announcement(node_id, name, "eu-north-1", "eu-north-1a", host, port, NOW_S)


def silent(_row: NodeRow) -> bool:
    return False


def heard(_row: NodeRow) -> bool:
    return True


# -- the document ------------------------------------------------------------------------------------------------------


def test_what_is_sealed_with_the_secret_is_believed() -> None:
    body = msgspec.json.encode(announced())
    assert opened(SECRET, body, seal(SECRET, body), NOW_S) == announced()
    assert opened(SECRET, body, seal(SECRET, body), NOW_S - SKEW_S_MAX) == announced()


@pytest.mark.parametrize("given", ["", "é", "0" * 64, seal(b"another secret, of another store", b"{}")])
def test_what_is_not_sealed_is_refused(given: str) -> None:
    with pytest.raises(AnnouncementRefused, match="seal"):
        opened(SECRET, msgspec.json.encode(announced()), given, NOW_S)


def test_an_old_document_is_refused() -> None:
    """Red when the time was not compared: whoever overheard it could use it for ever."""
    body = msgspec.json.encode(announced())
    with pytest.raises(AnnouncementRefused, match="clocks"):
        opened(SECRET, body, seal(SECRET, body), NOW_S + SKEW_S_MAX + 1)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "/run/another.sock"},
        {"host": ""},
        {"host": "a b"},
        {"port": 0},
        {"port": 65_536},
        {"node_id": "short"},
        {"region": ""},
        {"zone": "a/b"},
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    body = msgspec.json.encode(msgspec.structs.replace(announced(), **change))
    with pytest.raises(AnnouncementRefused):
        opened(SECRET, body, seal(SECRET, body), NOW_S)


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(AnnouncementRefused, match="not understood"):
        opened(SECRET, b"[]", seal(SECRET, b"[]"), NOW_S)


@pytest.fixture
def homes(tmp_path: Path) -> DataDir:
    return DataDir(tmp_path)


@pytest.fixture
async def catalog(homes: DataDir) -> AsyncIterator[Catalog]:
    fresh_catalog(homes.catalog, cluster_id=b"test cluster 016")
    opened_one = Catalog.open(homes.catalog)
    await opened_one.start()
    yield opened_one
    await opened_one.close()


# -- the catalog -------------------------------------------------------------------------------------------------------


async def joined(catalog: Catalog, document: Announcement, answers: object = silent) -> NodeRow:
    return await catalog.write(lambda tx: join(tx, document, answers))  # type: ignore[arg-type]


async def become(catalog: Catalog, row: NodeRow, state: str) -> None:
    await catalog.write(lambda tx: nodes.set_state(tx, row.number, state))


async def test_a_new_node_joins_and_a_repetition_changes_nothing(catalog: Catalog) -> None:
    row = await joined(catalog, announced())
    assert (row.name, row.state, row.host, row.port) == ("far", nodes.JOINING, "10.0.0.5", 9100)
    assert nodes.stands_alone(row)
    assert settled(await nodes.current(catalog), announced()) == row
    generation = (await catalog.meta()).config_generation
    assert await joined(catalog, announced()) == row
    assert (await catalog.meta()).config_generation == generation


async def test_a_directory_is_no_new_node_where_nobody_would_start_it(
    catalog: Catalog, tmp_path: Path
) -> None:
    """Of a store whose nodes all run by themselves. Red when the node is added: it is then waited for for ever."""
    await joined(catalog, announced())

    async def add(*, supervised: bool) -> NodeRow:
        place = DataDir(tmp_path)
        return await catalog.write(
            lambda tx: Membership(place, tx, 3).add(tmp_path / "new", supervised=supervised)
        )

    with pytest.raises(MembershipRefused, match="trivet node --dir"):
        await add(supervised=False)
    assert len(await nodes.current(catalog)) == 1
    added = await add(supervised=True)
    assert not nodes.stands_alone(added)


async def test_a_known_node_is_found_at_its_new_address(catalog: Catalog) -> None:
    row = await joined(catalog, announced())
    await become(catalog, row, nodes.UP)
    assert settled(await nodes.current(catalog), announced(port=9200)) is None
    moved = await joined(catalog, announced(port=9200))
    assert (moved.number, moved.port, moved.state) == (row.number, 9200, nodes.UP)


async def test_a_second_process_with_the_same_id_is_refused(catalog: Catalog) -> None:
    """A copied directory. Red when the address was changed without asking whether the first one answers."""
    row = await joined(catalog, announced())
    with pytest.raises(MembershipRefused, match="second process"):
        await joined(catalog, announced(host="10.0.0.6"), heard)
    assert await nodes.current(catalog) == (row,)


async def test_s23_a_known_name_with_another_id_is_refused(catalog: Catalog) -> None:
    """An unmounted disk is not an empty node. Red when the name's state was not looked at."""
    row = await joined(catalog, announced())
    await become(catalog, row, nodes.DOWN)
    with pytest.raises(MembershipRefused, match="trivet node replace far"):
        await joined(catalog, announced(OTHER_ID))
    assert (await nodes.current(catalog))[0].node_id.hex() == ID


async def test_s23_a_removed_node_does_not_come_back(catalog: Catalog) -> None:
    row = await joined(catalog, announced())
    await become(catalog, row, nodes.REMOVED)
    with pytest.raises(MembershipRefused, match="out of date"):
        await joined(catalog, announced())


async def test_a_first_start_that_did_not_come_to_its_end_is_repeated(catalog: Catalog) -> None:
    """It was never up, so it holds nothing, unless it is there after all."""
    row = await joined(catalog, announced())
    with pytest.raises(MembershipRefused):
        await joined(catalog, announced(OTHER_ID), heard)
    again = await joined(catalog, announced(OTHER_ID, port=9300))
    assert (again.number, again.node_id.hex(), again.port) == (row.number, OTHER_ID, 9300)


async def test_a_replaced_node_is_the_next_one_of_that_name(catalog: Catalog, homes: DataDir) -> None:
    """Only one that is silent can be replaced. Red when the state was not looked at: from here no directory is seen."""
    row = await joined(catalog, announced())
    await become(catalog, row, nodes.UP)

    async def replaced() -> NodeRow:
        return await catalog.write(lambda tx: Membership(homes, tx, 1).replace("far"))

    with pytest.raises(MembershipRefused, match="not lost"):
        await replaced()
    await become(catalog, row, nodes.DOWN)
    successor = await replaced()
    assert (successor.name, successor.state) == ("far", nodes.JOINING)
    taken = await joined(catalog, announced(OTHER_ID))
    assert (taken.number, taken.node_id.hex()) == (successor.number, OTHER_ID)
    with pytest.raises(MembershipRefused, match="out of date"):
        await joined(catalog, announced())
