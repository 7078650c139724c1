"""The process of one storage node. Loads what a node needs and nothing else: no SQL, no coding, no HTTP."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.node.config import NodeConfig
from cluster.node.identity import NodeRefused
from cluster.node.server import serve
from compose.credentials import load_cluster_secret
from compose.data_dir import DataDir
from compose.process import OnReady, inherited_listener, run_until_stopped
from compose.refusal import StartRefused
from compose.settings import Settings
from compose.tracing import traces_to


def run_node_process(
    settings: Settings,
    directory: Path,
    *,
    name: str,
    cluster_id: bytes,
    node_id: bytes,
    listen_fd: int,
    supervisor_fd: int | None,
) -> None:
    """Serves the node in `directory` until told to stop. Raises StartRefused when it is not this node's
    (S23).
    """
    config = NodeConfig(
        directory=directory,
        cluster_id=cluster_id,
        node_id=node_id,
        secret=load_cluster_secret(DataDir(settings.data).cluster_secret),
        segment_bytes=settings.segment_bytes,
        reserve_bytes=settings.node_reserve_bytes,
        scrub_bytes_per_s=settings.scrub_bytes_per_s,
    )

    # A woken node would push the front off its core at every call; as a batch process it waits its turn, and more
    # calls share one wake-up and one sync.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    async def work(on_ready: OnReady) -> None:
        with traces_to(settings.trace_url, name) as tracer:
            await serve(config, inherited_listener(listen_fd), on_ready, tracer)

    try:
        run_until_stopped(work, supervisor_fd=supervisor_fd, stop_wait_s=settings.stop_wait_s)
    except NodeRefused as refusal:
        raise StartRefused(str(refusal)) from refusal
