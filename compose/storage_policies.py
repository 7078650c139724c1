"""The codes of the storage classes, as the settings have them."""

from __future__ import annotations

from cluster.policies import StoragePolicies
from codec.geometry import Geometry
from compose.settings import Settings


def storage_policies(settings: Settings) -> StoragePolicies:
    """What the settings leave open of REDUCED_REDUNDANCY is as little as keeps the promise: one parity shard."""
    return StoragePolicies(
        Geometry(settings.data_shards, settings.parity_shards),
        Geometry(settings.reduced_data_shards or settings.data_shards, settings.reduced_parity_shards or 1),
    )
