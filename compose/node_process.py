"""The process of one storage node. Loads what a node needs and nothing else: no SQL, no coding, no HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from cluster.announcement import Announcement
from cluster.node.config import NodeConfig
from cluster.node.files import RealFiles
from cluster.node.identity import NodeIdentity, NodeRefused, initialise, is_initialised, read_identity
from cluster.node.server import serve
from compose.announcing import Announcer, FrontAddress
from compose.join_token import cluster_secret, given_token
from compose.process import OnReady, run_until_stopped
from compose.refusal import StartRefused
from compose.setting import host_and_port
from compose.settings import Settings
from compose.tracing import traces_to

_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - compared with


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Which node this is, and where. `announcer`: tells fronts of it; None under a supervisor."""

    directory: Path
    cluster_id: bytes
    node_id: bytes
    announcer: Announcer | None = None


def settle_node(settings: Settings, directory: Path, bound: tuple[str, int]) -> NodePlace:
    """The node of a process that runs by itself, listening at `bound`: that of the directory, or a new one in an empty
    directory. Whether a new one may join is the fronts' to say (S23). Raises StartRefused.
    """
    token = given_token(settings)
    if token is None or not settings.join:
        raise StartRefused(
            "a node that runs by itself needs a join token (TRIVET_JOIN_TOKEN_FILE, from `trivet token`) and a front "
            "to tell of itself: --join http://HOST:PORT"
        )
    host, port = host_and_port(settings.advertise) if settings.advertise else bound
    if host in _EVERYWHERE:
        raise StartRefused("others can't reach the address it listens on: give --advertise HOST:PORT")
    try:
        identity = _identity(settings, directory, token.cluster_id)
    except (NodeRefused, OSError) as refusal:
        raise StartRefused(str(refusal)) from refusal

    def announcement(utc_s: float) -> Announcement:
        return Announcement(
            identity.node_id.hex(), identity.name, identity.region, identity.zone, host, port, utc_s
        )

    fronts = [FrontAddress.parse(url) for url in settings.join]
    announcer = Announcer(fronts, token.secret, announcement)
    return NodePlace(directory, token.cluster_id, identity.node_id, announcer)


def _identity(settings: Settings, directory: Path, cluster_id: bytes) -> NodeIdentity:
    files = RealFiles()
    if is_initialised(directory):
        identity = read_identity(directory, files, cluster_id=cluster_id)
        if settings.node_name not in ("", identity.name):
            raise StartRefused(
                f"{directory} is the home of {identity.name}, not of {settings.node_name}: give each node its own --dir"
            )
        return identity
    if not settings.node_name:
        raise StartRefused(f"{directory} is empty: give the new node a name with --node-name")
    return initialise(
        directory,
        cluster_id=cluster_id,
        name=settings.node_name,
        region=settings.region,
        zone=settings.zone or f"{settings.region}a",
        files=files,
    )


def run_node_process(
    settings: Settings,
    place: NodePlace,
    *,
    name: str,
    listener: socket.socket,
    supervisor_fd: int | None,
) -> None:
    """Serves the node until told to stop. Raises StartRefused when the directory is not this node's (S23)."""
    config = NodeConfig(
        directory=place.directory,
        cluster_id=place.cluster_id,
        node_id=place.node_id,
        secret=cluster_secret(settings),
        segment_bytes=settings.segment_bytes,
        reserve_bytes=settings.node_reserve_bytes,
        scrub_bytes_per_s=settings.scrub_bytes_per_s,
    )

    # A woken node would push the front off its core at every call; as a batch process it waits its turn, and more
    # calls share one wake-up and one sync.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    async def work(on_ready: OnReady) -> None:
        announcing: asyncio.Task[None] | None = None

        def ready() -> None:
            nonlocal announcing
            on_ready()
            if place.announcer is not None:
                announcing = asyncio.create_task(place.announcer.run(), name="announcing")

        try:
            with traces_to(settings.trace_url, name) as tracer:
                await serve(config, listener, ready, tracer)
        finally:
            if announcing is not None:
                announcing.cancel()
                await asyncio.gather(announcing, return_exceptions=True)

    try:
        run_until_stopped(work, supervisor_fd=supervisor_fd, stop_wait_s=settings.stop_wait_s)
    except NodeRefused as refusal:
        raise StartRefused(str(refusal)) from refusal
