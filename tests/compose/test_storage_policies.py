"""The settings of the storage classes."""

from __future__ import annotations

import pytest

from cluster.policies import StoragePolicies
from codec.geometry import Geometry
from compose.settings import Settings
from compose.storage_policies import storage_policies


@pytest.mark.parametrize(
    ("environment", "reduced"),
    [
        ({}, Geometry(4, 1)),
        ({"TRIVET_REDUCED_DATA_SHARDS": "6"}, Geometry(6, 1)),
        ({"TRIVET_REDUCED_DATA_SHARDS": "2", "TRIVET_REDUCED_PARITY_SHARDS": "3"}, Geometry(2, 3)),
    ],
)
def test_reduced_redundancy_has_a_parity_shard_at_least(
    environment: dict[str, str], reduced: Geometry
) -> None:
    settings = Settings.read({"TRIVET_DATA_SHARDS": "4", "TRIVET_PARITY_SHARDS": "2", **environment}, {})
    policies = storage_policies(settings)
    assert policies == StoragePolicies(Geometry(4, 2), reduced)
    assert policies.geometry("REDUCED_REDUNDANCY") == reduced
    assert policies.geometry("GLACIER") == policies.geometry("STANDARD") == Geometry(4, 2)
    assert not policies.is_uniform
