"""S23: a node serves its own directory and no other."""

from pathlib import Path

import pytest

from cluster.node.files import RealFiles
from cluster.node.identity import (
    FenceState,
    NodeIdentity,
    NodeRefused,
    initialise,
    is_initialised,
    lock_directory,
    read_fence,
    read_identity,
    store_fence,
)

CLUSTER = b"c" * 16
FILES = RealFiles()


def setup(directory: Path) -> NodeIdentity:
    return initialise(directory, cluster_id=CLUSTER, name="node-1", region="r", zone="z", files=FILES)


def test_a_new_directory_becomes_a_home(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "node-1"
    assert not is_initialised(home)
    identity = setup(home)
    assert is_initialised(home)
    assert read_identity(home, FILES, cluster_id=CLUSTER, node_id=identity.node_id) == identity
    assert read_identity(home, FILES) == identity
    assert (identity.name, identity.region, identity.zone) == ("node-1", "r", "z")


def test_node_ids_differ(tmp_path: Path) -> None:
    assert setup(tmp_path / "a").node_id != setup(tmp_path / "b").node_id


@pytest.mark.parametrize("content", ["lost+found", "segments", "lock", "node.json.tmp"])
def test_leftovers_of_a_crashed_attempt_are_accepted(tmp_path: Path, content: str) -> None:
    if content in ("lost+found", "segments"):
        (tmp_path / content).mkdir()
    else:
        (tmp_path / content).write_bytes(b"half")
    setup(tmp_path)
    assert is_initialised(tmp_path)


@pytest.mark.parametrize("content", ["node.json", "fence.json", "index", "holiday.jpg"])
def test_s23_a_directory_in_use_is_not_initialised(tmp_path: Path, content: str) -> None:
    (tmp_path / content).write_bytes(b"x")
    with pytest.raises(NodeRefused, match="not empty"):
        setup(tmp_path)
    assert (tmp_path / content).read_bytes() == b"x"


def test_s23_segments_without_identity_are_not_initialised(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "00000001.seg").write_bytes(b"x")
    with pytest.raises(NodeRefused, match="segments"):
        setup(tmp_path)


def test_s23_an_empty_or_missing_directory_is_refused(tmp_path: Path) -> None:
    """An unmounted disk is not an empty node. Broken once: created what was missing."""
    with pytest.raises(NodeRefused, match="mounted"):
        read_identity(tmp_path, FILES, cluster_id=CLUSTER)
    with pytest.raises(NodeRefused, match="mounted"):
        read_identity(tmp_path / "missing", FILES, cluster_id=CLUSTER)
    assert list(tmp_path.iterdir()) == []


def test_s23_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    """Broken once: dropped the comparison of cluster ids."""
    setup(tmp_path)
    with pytest.raises(NodeRefused, match="another cluster"):
        read_identity(tmp_path, FILES, cluster_id=b"x" * 16)
    with pytest.raises(NodeRefused, match="home of node"):
        read_identity(tmp_path, FILES, cluster_id=CLUSTER, node_id=b"x" * 16)


@pytest.mark.parametrize(
    ("old", "new"), [(b'"format": 1', b'"format": 2'), (b"{", b"["), (b'"name"', b'"nome"'), (b"63", b"6x")]
)
def test_s23_an_identity_that_can_not_be_understood_is_refused(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    setup(tmp_path)
    path = tmp_path / "node.json"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(NodeRefused):
        read_identity(tmp_path, FILES)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    fd = lock_directory(tmp_path, FILES)
    with pytest.raises(NodeRefused, match="in use"):
        lock_directory(tmp_path, FILES)
    FILES.close(fd)
    FILES.close(lock_directory(tmp_path, FILES))


def test_s18_the_fence_file(tmp_path: Path) -> None:
    assert read_fence(tmp_path, FILES) is None
    store_fence(tmp_path, FILES, FenceState(b"k" * 16, 3))
    store_fence(tmp_path, FILES, FenceState(b"k" * 16, 4))
    assert read_fence(tmp_path, FILES) == FenceState(b"k" * 16, 4)
    (tmp_path / "fence.json").write_bytes(b"{}")
    with pytest.raises(NodeRefused):
        read_fence(tmp_path, FILES)
