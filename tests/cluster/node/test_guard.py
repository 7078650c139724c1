"""An index that kills who uses it: the next start, or one soon after, makes it anew (S7: it is derived data).

LMDB has no checksums. Real node processes, whose index file is damaged behind their backs.
"""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import os
import random
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.node.files import RealFiles
from cluster.node.guard import IndexGuard
from cluster.node.identity import NodeRefused, initialise
from cluster.node.index import Index
from cluster.wire import Op, Status, StatusRequest, decode_node_status
from codec.block import verify
from tests.cluster.node.memory_disk import Trap
from tests.cluster.node.node_bench import CLUSTER, NodeBench, key_of, payload_of
from tests.cluster.node.node_client import NodeClient
from tests.cluster.node.test_process import connected, node_process

BLOCKS = 1500
STARTS_MAX = 4
_PAGE = 4096
_BRANCH, _LEAF = 1, 2


def data_file(directory: Path) -> Path:
    return directory / "index" / "data.mdb"


async def fill(directory: Path) -> None:
    with node_process(directory) as (process, port):
        async with connected(port) as client:
            replies = await asyncio.gather(*(client.put(key_of(n), payload_of(n)) for n in range(BLOCKS)))
            assert {reply.status for reply in replies} == {Status.OK}
            for number in range(
                BLOCKS, BLOCKS + 3
            ):  # the last checkpoint has been stored before the last put
                position = data_file(directory).stat().st_mtime_ns
                assert (await client.put(key_of(number), payload_of(number))).status == Status.OK
                while data_file(directory).stat().st_mtime_ns == position:
                    await asyncio.sleep(0.01)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a node that was killed, by their paths."""
    directory = tmp_path_factory.mktemp("filled")
    initialise(directory, cluster_id=CLUSTER, name="n", region="r", zone="z", files=RealFiles())
    asyncio.run(fill(directory))
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.fixture
def node(filled: dict[str, bytes], memory_path: Path) -> Path:
    """A directory of its own for each test."""
    for name, content in filled.items():
        (memory_path / name).parent.mkdir(exist_ok=True)
        (memory_path / name).write_bytes(content)
    return memory_path


def damage(directory: Path, kind: int, change: Callable[[bytearray, int], None]) -> None:
    """Change each page of a kind: `change` gets the file's content and the offset of a page."""
    content = bytearray(data_file(directory).read_bytes())
    count = 0
    for at in range(2 * _PAGE, len(content), _PAGE):  # behind the meta pages
        number, _, flags = struct.unpack_from("<QHH", content, at)
        if number == at // _PAGE and flags == kind:
            change(content, at)
            count += 1
    assert count, "no such page"
    with data_file(directory).open("r+b") as file:
        file.write(content)


def nodes_of(content: bytearray, page: int) -> list[int]:
    lower = struct.unpack_from("<H", content, page + 12)[0]
    return [page + struct.unpack_from("<H", content, at)[0] for at in range(page + 16, page + lower, 2)]


def huge_values(content: bytearray, page: int) -> None:
    """Values that reach far beyond the file: SIGBUS for who copies them."""
    for at in nodes_of(content, page):
        content[at + 2 : at + 4] = b"\xff\x3f"


def far_children(content: bytearray, page: int) -> None:
    """Children that are no pages of the file."""
    for at in nodes_of(content, page):
        content[at + 2 : at + 4] = b"\xff\x7f"


def wild_pointers(content: bytearray, page: int) -> None:
    """Pointers out of the page, far behind the end of the file's mapping for some."""
    for at in range(page + 16, page + struct.unpack_from("<H", content, page + 12)[0], 2):
        content[at : at + 2] = b"\xf0\xff"


def no_flags(content: bytearray, page: int) -> None:
    """Neither branch nor leaf."""
    content[page + 10 : page + 12] = b"\0\0"


def rubbish(content: bytearray, page: int) -> None:
    """Whole pages of noise, but for their numbers."""
    content[page + 8 : page + _PAGE] = random.Random(page).randbytes(_PAGE - 8)


def serve_all(directory: Path) -> int:
    """Start the node, as a supervisor does, until it has served every block and taken a new one; the starts."""
    for start in range(1, STARTS_MAX + 1):
        try:
            with node_process(directory) as (process, port):
                try:
                    asyncio.run(use(port))
                except ConnectionError:
                    process.wait(10)  # red when a node goes on beside a damaged index
                    continue
                return start
        except AssertionError as error:
            if "ready" not in str(error):  # it died before it was ready
                raise
    raise AssertionError(f"not served after {STARTS_MAX} starts")


async def use(port: int) -> None:
    """Raises ConnectionError when the node dies, or hangs up."""
    async with connected(port) as client:
        for number in range(BLOCKS + 3):
            reply = await ask(client, number)
            assert reply == payload_of(number), number
        assert (await client.put(key_of(BLOCKS + 100), b"new")).status == Status.OK
        status = decode_node_status((await client.send(Op.STATUS, StatusRequest())).header)
        assert status.blocks >= BLOCKS + 4
        assert status.damage == {}


async def ask(client: NodeClient, number: int) -> bytes:
    reply = await client.read(key_of(number))
    assert reply.status == Status.OK, number
    return bytes(verify(reply.payload, key_of(number)).payload)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (_LEAF, huge_values),
        (_LEAF, wild_pointers),
        (_LEAF, no_flags),
        (_LEAF, rubbish),
        (_BRANCH, far_children),
        (_BRANCH, wild_pointers),
        (_BRANCH, no_flags),
        (_BRANCH, rubbish),
    ],
)
def test_s7_a_node_comes_back_from_rot_in_its_index(
    node: Path, kind: int, change: Callable[[bytearray, int], None]
) -> None:
    """Red when the guard's last words are not looked at: the node dies at each start for ever."""
    damage(node, kind, change)
    starts = serve_all(node)
    assert starts <= 3, starts


@pytest.mark.parametrize("pages", [0, 1, 2, 5, 20])
def test_s7_a_node_comes_back_from_a_truncated_index(node: Path, pages: int) -> None:
    os.truncate(data_file(node), pages * _PAGE)
    assert serve_all(node) == 1


def test_s7_a_node_whose_index_is_truncated_under_it_comes_back(node: Path) -> None:
    """SIGBUS in the middle of its work."""
    with node_process(node) as (process, port):

        async def work() -> None:
            async with connected(port) as client:
                await ask(client, 0)
                os.truncate(data_file(node), _PAGE)
                with pytest.raises(ConnectionError):
                    await asyncio.gather(*(ask(client, number) for number in range(BLOCKS)))

        asyncio.run(work())
        assert process.wait(10) == -signal.SIGBUS
    assert b"Fatal Python error: Bus error" in (node / "index" / "guard").read_bytes()
    os.truncate(data_file(node), 0)
    assert serve_all(node) == 1


def is_new(directory: Path, before: int) -> bool:
    return data_file(directory).stat().st_ino != before


def test_sigkill_of_a_node_that_was_ready_costs_no_new_index(node: Path) -> None:
    """However often. Red when starts that came to their end are counted."""
    before = data_file(node).stat().st_ino
    for _ in range(5):
        with node_process(node) as (process, _):
            process.kill()
            process.wait()
    assert not is_new(node, before)
    assert serve_all(node) == 1


def kill_while_starting(directory: Path) -> None:
    """SIGKILL between the first use of the index and the end of the start: the log can't be read yet."""
    guard = IndexGuard(directory / "index")
    if guard.begin():
        Index.remove(directory / "index")
    guard.close()


def test_an_index_that_no_start_gets_along_with_is_made_anew(node: Path) -> None:
    """A start may also hang, or end by what leaves no last words. Three of them, then six: see the guard."""
    before = data_file(node).stat().st_ino
    for _ in range(3):
        kill_while_starting(node)
        assert not is_new(node, before)
    assert serve_all(node) == 1
    assert is_new(node, before)


def test_a_slow_new_index_gets_more_and_more_starts(tmp_path: Path) -> None:
    """Red when every third start throws away what the ones before made."""
    thrown_away = []
    for start in range(30):
        guard = IndexGuard(tmp_path / "index")
        if guard.begin():
            thrown_away.append(start)
        guard.close()
    assert thrown_away == [3, 6, 12, 24]


def test_a_refused_start_says_nothing_of_the_index(bench: NodeBench) -> None:
    """The disk failed, and all is said: a later start uses the same index."""
    bench.put(1)
    bench.checkpoint()
    before = data_file(bench.directory).stat().st_ino
    bench.store.abandon()
    for _ in range(4):
        bench.disk.kill()
        bench.disk.traps += [Trap("fdatasync", errno.EIO), Trap("fdatasync", errno.EIO)]
        with pytest.raises(NodeRefused):
            bench.open()
    bench.open()
    assert not is_new(bench.directory, before)
    assert bench.read(1) == payload_of(1)


def test_the_guard_leaves_a_fault_handler_alone_that_is_there(tmp_path: Path) -> None:
    assert faulthandler.is_enabled()  # pytest's
    guard = IndexGuard(tmp_path / "index")
    guard.begin()
    guard.close()
    assert faulthandler.is_enabled()


def test_a_condemned_index_is_thrown_away_once(tmp_path: Path) -> None:
    guard = IndexGuard(tmp_path / "index")
    for is_condemned in (False, True, False):
        assert guard.begin() == is_condemned
        guard.ended_well()
        if not is_condemned:
            guard.condemn("an entry\nis too short")
        guard.close()
    assert (tmp_path / "index" / "guard").read_bytes().startswith(b"damaged: an entry is too short\n\n")
