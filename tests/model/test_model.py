"""The short form of `make model`: versions, delete markers, conditions, tags, locks, copies, renames and multipart
uploads at random, with crashes, dead nodes, rot and repair among them, are what a model in plain Python says."""

from __future__ import annotations

import pytest

from tests.model.run import play
from tests.postgres import required_binaries


@pytest.mark.parametrize("seed", range(9))
def test_p4_p6_the_catalog_does_what_the_model_says(seed: int) -> None:
    """Red when a deleted current version was followed by none or kept its marker's place, when a marker or a version
    below one took a sequence twice, when a suspended bucket's marker had an id, when a copy took no reference or a
    removed version gave none back, when a locked version was removed, and when governance became compliance without
    bypass."""
    played = play("catalog", seed, 250)
    assert played.refused > 10


@pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.long), 2])
def test_p4_p6_the_catalog_in_a_database_does_what_the_model_says(seed: int) -> None:
    """With a server that is killed and started again under it."""
    required_binaries()
    played = play("postgres", seed, 150)
    assert played.refused > 5


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_p1_p2_p3_p4_a_store_does_what_the_model_says(seed: int) -> None:
    """Red when a degraded write stored each shard once, when a rename left the old name, and when it lost what was kept
    with the object."""
    played = play("front", seed, 150)
    assert played.refused > 5
