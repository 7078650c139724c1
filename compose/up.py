"""``trivet up``: the whole store on one machine, from an empty directory to a printed endpoint, and back
down.

Order of starting: port, data directory, credentials, cluster secret, catalog and node directories (in a
short-lived child, because the supervisor stays small: it loads neither SQL nor HTTP), nodes, steward and
fronts. Order of stopping: fronts, steward, nodes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cluster.placement import REGIONS
from compose import credentials, listening
from compose.data_dir import DataDir
from compose.founding_plan import FoundingPlan, PlannedNode
from compose.refusal import StartRefused
from compose.settings import Settings
from compose.store import Store


def up(settings: Settings, environment: Mapping[str, str]) -> int:
    """Runs until it is told to stop; the process's exit code. Raises StartRefused before anything runs."""
    settings = replace(
        settings,
        data=settings.data.absolute(),
        node_dirs=tuple(directory.absolute() for directory in settings.node_dirs),
    )
    credentials.from_environment(environment)  # half a pair is refused before anything is created
    credentials.metrics_token(environment)  # and so is a token that no header can carry
    plan = plan_founding(settings)
    data = DataDir(settings.data)
    with listening.listen_s3(settings.host, settings.port) as s3_socket:
        lock = data.hold(settings.stop_wait_s + 5.0)
        try:
            root = credentials.settle(data, environment)
            credentials.settle_cluster_secret(data)
            _clear_run_files(data)
            data.pid_file("supervisor").write_text(f"{os.getpid()}\n", encoding="ascii")
            try:
                store = Store(
                    settings=settings,
                    data=data,
                    environment=environment,
                    s3_socket=s3_socket,
                    lock=lock,
                )
                return asyncio.run(store.run(root, plan))
            finally:
                _clear_run_files(data)
        finally:
            os.close(lock)


def plan_founding(settings: Settings) -> FoundingPlan:
    """What this start says about the store's nodes: all of it for a new one, hardly anything later.

    Raises StartRefused as `plan_node_dirs` does.
    """
    directories = () if _names_moved_nodes(settings) else plan_node_dirs(settings)
    return FoundingPlan(
        nodes=[
            PlannedNode(f"node-{number + 1}", region, f"{region}a", str(directory))
            for number, directory in enumerate(directories)
            for region in (REGIONS[number % len(REGIONS)],)
        ],
        given=[str(directory) for directory in settings.node_dirs],
        nodes_asked=settings.nodes,
        width=settings.width,
    )


def _names_moved_nodes(settings: Settings) -> bool:
    """Whether the directories are for a store that is there: fewer than a new one needs, they say where some of
    its nodes lie now.
    """
    there = bool(settings.catalog) or DataDir(settings.data).catalog.exists()
    return there and 0 < len(settings.node_dirs) < settings.width


def plan_node_dirs(settings: Settings) -> tuple[Path, ...]:
    """One directory for each node of a new store. Raises StartRefused when there are too few for k + m, or
    one is named twice.
    """
    shards = f"{settings.data_shards}+{settings.parity_shards} shards need {settings.width} nodes"
    directories = settings.node_dirs
    if not directories:
        if settings.nodes and settings.nodes < settings.width:
            raise StartRefused(f"--nodes={settings.nodes}, but {shards}")
        data = DataDir(settings.data)
        count = settings.nodes or max(3, settings.width)
        return tuple(data.node(number) for number in range(1, count + 1))
    if len(directories) < settings.width:
        raise StartRefused(
            f"{len(directories)} --node-dir given, but {shards}: give --node-dir once for each node"
        )
    if settings.nodes not in (0, len(directories)):
        raise StartRefused(f"--nodes={settings.nodes}, but --node-dir is given {len(directories)} times")
    resolved = [directory.resolve() for directory in directories]
    if len(set(resolved)) < len(resolved):
        raise StartRefused("the same directory is given to two nodes: each --node-dir must be another one")
    return directories


def _clear_run_files(data: DataDir) -> None:
    """What a life that ended by SIGKILL left names processes that are gone or, by now, somebody else's."""
    for pattern in ("*.pid", "*.sock"):
        for path in data.run.glob(pattern):
            path.unlink(missing_ok=True)
    # The counters of a store begin at 0 with it; what they counted before is in the catalog's history.
    if data.metrics.exists():
        shutil.rmtree(data.metrics)
