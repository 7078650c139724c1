"""What the steward works with, and its settings."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from catalog.engine import Catalog, wall_clock_ms
from cluster import wire
from cluster.catalog_log import CatalogLog
from cluster.policies import StoragePolicies
from cluster.topology import NodeSet
from codec.geometry import Geometry


@dataclass(frozen=True, slots=True)
class StewardSettings:
    """Times in seconds.

    `lease_expiry_s`: a lease that was not renewed for so long is taken by another steward, and its holder, which
    tries every `renew_s`, stops by itself.
    `rebuild_after_s`: a node away for longer counts as lost, and what it held is built anew elsewhere.
    `repair_bytes_per_s`: object bytes that repair and rebalancing work on, 0 = no limit. `repair_blobs` are in
    flight at once, in `repair_buffer_bytes` of memory. `scrub_s`: from one comparison of the catalog with the
    nodes to the next. `orphan_epochs`: how many upload epochs old a block must be to count as an orphan when
    no row names it; `orphan_share_max`: of a node's blocks, beyond which a pass stops unless the orphans are
    fewer than `orphan_floor_blocks` (S18). `lifecycle_s`: between two looks whether a lifecycle rule has something
    to do; `lifecycle_versions_max` are removed in one transaction. `catalog_log_s`: between two looks whether the
    catalog's log on the nodes wants trimming, or a snapshot.
    """

    renew_s: float = 1.0
    lease_expiry_s: float = 4.5
    health_s: float = 0.3
    status_deadline_s: float = 0.5
    down_s: float = 2.0
    idle_s: float = 2.0
    retry_s: float = 30.0
    epoch_s: float = 900.0
    lock_clock_s: float = 10.0
    completions_s: float = 3600.0
    completion_kept_ms: int = 24 * 3600 * 1000
    delete_deadline_s: float = 30.0
    collect_blobs_max: int = 100
    collect_stripes_max: int = 4096
    delete_blocks_max: int = wire.DELETE_BLOCKS_MAX
    sweep_rows_max: int = 256
    orphans_s: float = 3600.0
    orphan_epochs: int = 8
    orphan_share_max: float = 0.01
    orphan_floor_blocks: int = 1000
    inventory_entries: int = 500
    rebuild_after_s: float = 300.0
    repair_bytes_per_s: int = 0
    repair_blobs: int = 32
    repair_buffer_bytes: int = 64 << 20
    repair_chunk_bytes: int = 16 << 20
    repair_page: int = 64
    repair_idle_s: float = 1.0
    repair_deadline_s: float = 20.0
    unreadable_retry_s: float = 3600.0
    progress_s: float = 1.0
    damaged_s: float = 5.0
    scrub_s: float = 6 * 3600.0
    scrub_blobs: int = 256
    scrub_stripes_max: int = 4096
    lifecycle_s: float = 1.0
    lifecycle_keys: int = 16
    lifecycle_versions_max: int = 64
    lifecycle_walk_keys: int = 128
    lifecycle_tell_s: float = 3600.0
    transition_buffer_bytes: int = 32 << 20
    catalog_log_s: float = 5.0


MakeSnapshot = Callable[[Path], tuple[int, int, Iterable[bytes]]]
"""(batch, term, chunks) of the catalog file there. Called in a thread, as is the iterator of the chunks; raises
CatalogError."""


Statuses = Callable[[], Mapping[int, wire.NodeStatus]]
"""What each node last said of itself, by number; asked for anew each time."""


@dataclass(frozen=True, slots=True)
class StewardServices:
    """A started catalog and links of the steward's own (S25). `monotonic` judges the lease and paces the
    work, `now_ms` says what is due."""

    catalog: Catalog
    nodes: NodeSet
    settings: StewardSettings = field(default_factory=StewardSettings)
    monotonic: Callable[[], float] = time.monotonic
    now_ms: Callable[[], int] = wall_clock_ms
    random: Callable[[int], bytes] = os.urandom
    policies: StoragePolicies = StoragePolicies(Geometry(2, 1), Geometry(2, 1))  # noqa: RUF009 - frozen
    catalog_log: CatalogLog | None = None
    """Over `nodes`; None when the catalog keeps no log on them (S17)."""
    make_snapshot: MakeSnapshot | None = None
    """Given when there is a `catalog_log`."""

    @property
    def deadline_s(self) -> float:
        """Of one request to one node, in the background."""
        return self.settings.delete_deadline_s
