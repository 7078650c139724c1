"""The process of the steward: background work, by the one that holds the lease."""

from __future__ import annotations

import asyncio
import math

from catalog import snapshots
from cluster import wire
from cluster.steward import worker
from cluster.steward.services import StewardServices, StewardSettings
from compose.process import OnReady, run_until_stopped
from compose.settings import Settings
from compose.storage_policies import storage_policies
from compose.wiring import catalog_log, connected_nodes, opened_catalog


def run_steward_process(settings: Settings, *, supervisor_fd: int | None) -> None:
    """Does the store's background work until told to stop. Raises StartRefused when the catalog can't be
    used.
    """

    async def work_of_steward(on_ready: OnReady) -> None:
        async with (
            opened_catalog(settings, wait_s=math.inf) as catalog,
            connected_nodes(settings, catalog, wire.Role.STEWARD) as node_set,
        ):
            on_ready()  # another steward may be in office: then it stands by, and that is being ready
            services = StewardServices(
                catalog,
                node_set,
                _steward_settings(settings),
                policies=storage_policies(settings),
                catalog_log=catalog_log(catalog, node_set),
                make_snapshot=snapshots.make_snapshot,
            )
            await worker.run(services, asyncio.Event())

    run_until_stopped(work_of_steward, supervisor_fd=supervisor_fd, stop_wait_s=settings.stop_wait_s)


def _steward_settings(settings: Settings) -> StewardSettings:
    return StewardSettings(
        rebuild_after_s=settings.rebuild_after_s,
        repair_bytes_per_s=settings.repair_bytes_per_s,
        scrub_s=settings.scrub_s,
    )
