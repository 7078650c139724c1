"""Which directories the nodes get."""

from pathlib import Path

import pytest

from cluster.placement import REGIONS
from compose.refusal import StartRefused
from compose.settings import Settings
from compose.up import plan_founding, plan_node_dirs


def test_three_nodes_or_as_many_as_a_stripe_needs() -> None:
    assert plan_node_dirs(Settings(data=Path("/d"))) == tuple(Path(f"/d/node-{n}") for n in (1, 2, 3))
    assert len(plan_node_dirs(Settings(data=Path("/d"), data_shards=4, parity_shards=2))) == 6
    assert len(plan_node_dirs(Settings(data=Path("/d"), data_shards=1, parity_shards=1))) == 3


def test_a_new_store_may_have_more_nodes() -> None:
    """In three regions, in turn."""
    plan = plan_founding(Settings(data=Path("/d"), nodes=5))
    assert [node.directory for node in plan.nodes] == [f"/d/node-{n}" for n in (1, 2, 3, 4, 5)]
    assert [node.region for node in plan.nodes] == [*REGIONS, *REGIONS[:2]]
    assert (plan.given, plan.nodes_asked, plan.width) == ([], 5, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(nodes=2), r"2\+1 shards need 3 nodes"),
        (Settings(nodes=4, node_dirs=(Path("/a"), Path("/b"), Path("/c"))), "given 3 times"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(settings: Settings, said: str) -> None:
    with pytest.raises(StartRefused, match=said):
        plan_founding(settings)


def test_given_directories_are_taken_as_they_are() -> None:
    given = tuple(Path(f"/disk{n}") for n in range(4))
    assert plan_node_dirs(Settings(node_dirs=given)) == given


def test_a_store_that_is_there_may_name_only_the_node_that_moved(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, node_dirs=(tmp_path / "moved",))
    with pytest.raises(StartRefused, match="once for each node"):
        plan_founding(settings)
    (tmp_path / "catalog.sqlite").touch()
    plan = plan_founding(settings)
    assert (plan.nodes, plan.given) == ([], [str(tmp_path / "moved")])


def test_too_few_directories_are_refused_with_what_is_needed() -> None:
    with pytest.raises(StartRefused, match=r"2\+1 shards need 3 nodes"):
        plan_node_dirs(Settings(node_dirs=(Path("/a"), Path("/b"))))


def test_two_names_of_one_directory_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StartRefused, match="same directory"):
        plan_node_dirs(Settings(node_dirs=(tmp_path, tmp_path / "link", tmp_path / "c")))
