"""Where a blob shall lie, for every state of the nodes: pure functions, tried at random."""

import random

import pytest

from catalog.model import BlobRow, PlacementUse, Run
from cluster.errors import NotEnoughNodes
from cluster.placement import copies, degraded_layout, is_standard, packed, place, survives_any_loss
from cluster.steward.plan import Stretch, chunks, holders_of, is_named, plan_repair
from cluster.steward.standing import Standing
from cluster.steward.survey import is_wrong
from cluster.topology import NodeInfo

STRIPE = 4096
SEED = 20261122


def node(number: int) -> NodeInfo:
    return NodeInfo(number, bytes([number]) * 16, f"n{number}", f"r{number % 3}", "a", ("h", number))


def standing(
    count: int,
    *,
    away: frozenset[int] = frozenset(),
    full: frozenset[int] = frozenset(),
    leaving: frozenset[int] = frozenset(),
    gone: frozenset[int] = frozenset(),
) -> Standing:
    """Nodes 1 … count, of which some are away for a moment, full, leaving (draining) or removed."""
    members = tuple(node(n) for n in range(1, count + 1) if n not in gone)
    numbers = frozenset(n.number for n in members)
    present = numbers - away
    return Standing(
        members=members,
        numbers=numbers,
        present=present,
        writable=present - full - leaving,
        leaving=leaving & numbers,
        settled=numbers - leaving,
    )


def row(
    blob_id: bytes, nodes: tuple[int, ...], *runs: Run, stripes: int = 4, k: int = 2, m: int = 1
) -> BlobRow:
    return BlobRow(blob_id, stripes * STRIPE, k, m, STRIPE, 1, 0, nodes, None, runs)


ID = bytes(range(16))


def test_a_standard_layout_whose_holders_are_there_or_only_just_away_stays() -> None:
    """Red when a node that is away for a moment lost its shards at once."""
    blob = row(ID, (1, 2, 3))
    for now in (standing(4), standing(4, away=frozenset((2,))), standing(4, full=frozenset((3,)))):
        plan = plan_repair(blob, now)
        assert not plan.moves
        assert plan.stretches == (Stretch(0, 4, ((0, 1), (1, 2), (2, 3)), ((0, 1), (1, 2), (2, 3))),)


def test_a_holder_that_leaves_or_refuses_is_replaced_and_the_others_keep_their_shards() -> None:
    blob = row(ID, (1, 2, 3))
    for plan in (
        plan_repair(blob, standing(4, leaving=frozenset((2,)))),
        plan_repair(blob, standing(4, gone=frozenset((2,)))),
        plan_repair(blob, standing(4), {2}),
    ):
        assert plan.nodes == (1, 4, 3)
        assert plan.runs == ()
    both = plan_repair(blob, standing(5, leaving=frozenset((2,)), away=frozenset((3,))))
    assert both.nodes[2] == 3, "one that is away for a moment is waited for"


def test_with_too_few_nodes_what_is_left_is_protected_on_them() -> None:
    blob = row(ID, (1, 2, 3))
    plan = plan_repair(blob, standing(3, gone=frozenset((2,))))
    assert survives_any_loss(2, copies(plan.nodes, 3), (1, 3))
    assert 2 not in plan.nodes
    with pytest.raises(NotEnoughNodes):
        plan_repair(blob, standing(2, gone=frozenset((2,))))
    with pytest.raises(NotEnoughNodes):
        plan_repair(blob, standing(2), rebalance=True)


def test_runs_become_one_when_there_are_nodes_for_it() -> None:
    degraded = packed(degraded_layout(2, 1, (1, 2)), 3)
    blob = row(ID, (1, 2, 3), Run(1, degraded), stripes=9)
    plan = plan_repair(blob, standing(3))
    assert is_standard(plan.nodes, 3)
    assert plan.runs == ()
    assert [(s.first, s.stop) for s in plan.stretches] == [(0, 1), (1, 9)]
    few = plan_repair(blob, standing(3, away=frozenset((3,))))
    assert {(0, 1), (1, 2), (2, 3)} < set(copies(few.nodes, 3)), "nothing is forgotten"
    for stretch in few.stretches:
        assert survives_any_loss(2, stretch.new, (1, 2))


def test_rebalancing_moves_to_where_place_would_put_it() -> None:
    moved = 0
    for number in range(50):
        blob_id = bytes([number]) * 16
        blob = row(blob_id, place(blob_id, [node(n) for n in (1, 2, 3)], 3))
        plan = plan_repair(blob, standing(5), rebalance=True)
        assert set(plan.nodes) == set(place(blob_id, standing(5).members, 3))
        kept = [n for n in blob.nodes if n in plan.nodes]
        assert [n for n in plan.nodes if n in kept] == [n for n in blob.nodes if n in kept]
        moved += plan.moves
    assert 10 < moved < 50


@pytest.mark.parametrize(("k", "m"), [(2, 1), (4, 2), (3, 2), (1, 1)])
def test_p7_whatever_the_nodes_do_a_plan_never_leaves_less_than_it_found(k: int, m: int) -> None:
    """Random layouts and random states of nodes. Of each stripe, what can be read now can be read afterwards,
    and so after the loss of any one node if it could before. And a plan is what the survey waits for: a blob
    whose placement is wrong is planned to move or can't be; one that was moved is not wrong any more."""
    rng = random.Random(SEED + 10 * k + m)
    for _ in range(600):
        count = rng.randint(2, k + m + 3)
        numbers = list(range(1, count + 1))
        layouts = [_layout(rng, numbers, k, m) for _ in range(rng.choice((1, 1, 2, 3)))]
        runs = tuple(Run(i, nodes) for i, nodes in enumerate(layouts))
        blob = row(rng.randbytes(16), layouts[0], *runs[1:], stripes=4, k=k, m=m)
        now = standing(
            count,
            away=frozenset(n for n in numbers if rng.random() < 0.15),
            full=frozenset(n for n in numbers if rng.random() < 0.1),
            leaving=frozenset(n for n in numbers if rng.random() < 0.15),
            gone=frozenset(n for n in numbers if rng.random() < 0.1),
        )
        avoid = {n for n in numbers if rng.random() < 0.1}
        try:
            plan = plan_repair(blob, now, avoid)
        except NotEnoughNodes:
            continue
        after = replace_layout(blob, plan.nodes, plan.runs)
        for stripe in range(4):
            old = copies(blob.nodes_at(stripe), k + m)
            new = copies(after.nodes_at(stripe), k + m)
            (stretch,) = [s for s in plan.stretches if s.first <= stripe < s.stop]
            assert sorted(stretch.old) == sorted(old)
            assert sorted(stretch.new) == sorted(new)
            added = {n for _, n in set(new) - set(old)}
            assert added <= now.writable - avoid
            assert not {n for _, n in new} - now.numbers
            if len({s for s, n in old if n in now.present}) < k:
                continue  # it can't be read now: mending fails, and nothing is moved
            assert len({s for s, n in new if n in now.present | now.keeping}) >= k
            for lost in now.present:
                if len({s for s, n in old if n in now.present - {lost}}) >= k and not blob.runs:
                    waiting = now.keeping - now.present
                    assert len({s for s, n in new if n in (now.present | waiting) - {lost}}) >= k
        if not plan.moves:
            continue
        use = PlacementUse(1, plan.nodes, k, m)
        if not plan.runs and is_standard(plan.nodes, k + m):
            assert not is_wrong(use, now) or avoid


def replace_layout(blob: BlobRow, nodes: tuple[int, ...], runs: tuple[Run, ...]) -> BlobRow:
    return row(blob.id, nodes, *runs, stripes=4, k=blob.k, m=blob.m)


def _layout(rng: random.Random, numbers: list[int], k: int, m: int) -> tuple[int, ...]:
    if len(numbers) >= k + m and rng.random() < 0.5:
        return tuple(rng.sample(numbers, k + m))
    alive = rng.sample(numbers, rng.randint(2, len(numbers)))
    return packed(degraded_layout(k, m, alive), k + m)


def test_chunks_cover_each_stripe_once() -> None:
    stretches = [Stretch(0, 5, (), ()), Stretch(5, 6, ((0, 1),), ()), Stretch(6, 20, (), ())]
    pieces = list(chunks(stretches, 4))
    assert [s for piece in pieces for s in range(piece.first, piece.stop)] == list(range(20))
    assert all(piece.stop - piece.first <= 4 for piece in pieces)


def test_what_is_named_and_who_holds() -> None:
    blob = row(ID, (1, 2, 0, 2, 1), Run(2, (3, 4, 5)))
    assert holders_of(blob) == {1, 2, 3, 4, 5}
    assert is_named(blob, 1, 0, 2)
    assert not is_named(blob, 2, 0, 2)
    assert is_named(blob, 3, 2, 5)
    assert not is_named(blob, 0, 2, 0)


def test_a_placement_is_wrong_only_while_something_can_be_done_about_it() -> None:
    use = PlacementUse(1, (1, 2, 3), 2, 1)
    degraded = PlacementUse(2, (1, 2, 0, 2, 1), 2, 1)
    assert not is_wrong(use, standing(3))
    assert not is_wrong(use, standing(4, away=frozenset((1,))))
    assert is_wrong(use, standing(4, leaving=frozenset((1,))))
    assert not is_wrong(use, standing(3, leaving=frozenset((1,)))), "nowhere to go"
    assert is_wrong(use, standing(4, leaving=frozenset((1,)), away=frozenset((2,))))
    assert is_wrong(use, standing(3, gone=frozenset((1,))))
    assert not is_wrong(use, standing(2, gone=frozenset((1,))))
    assert not is_wrong(use, standing(4, gone=frozenset((1,)), away=frozenset((4,)))), "its successor starts"
    assert is_wrong(degraded, standing(3))
    assert not is_wrong(degraded, standing(3, away=frozenset((3,))))
    assert not is_wrong(degraded, standing(2))
