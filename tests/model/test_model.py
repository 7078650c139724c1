"""The short form of `make model`: versions, delete markers, conditions, tags, locks, copies, renames and multipart
uploads at random, with crashes, dead nodes, rot and repair among them, are what a model in plain Python says."""

from __future__ import annotations

import pytest

from tests.model.run import play


@pytest.mark.parametrize("seed", range(9))
def test_p4_p6_the_catalog_does_what_the_model_says(seed: int) -> None:
    played = play("catalog", seed, 220)
    assert played.refused > 10


@pytest.mark.parametrize("seed", [1, 2, 3, 5])
def test_p1_p2_p3_p4_a_store_does_what_the_model_says(seed: int) -> None:
    played = play("front", seed, 160)
    assert played.refused > 5
