"""A node process from start to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from cluster.node.config import NodeConfig
from cluster.node.connection import Connection
from cluster.node.files import FileLayer, RealFiles
from cluster.node.service import Service
from cluster.node.store import Store

log = logging.getLogger("trivet.node")


async def serve(
    config: NodeConfig, sock: socket.socket, on_ready: Callable[[], None], files: FileLayer | None = None
) -> None:
    """Run a node on the listening `sock` until cancelled; then finish, sync and close everything.

    `on_ready` is called once requests are served. Raises NodeRefused (S23) or OSError when the directory
    can't be served, RuntimeError when the node can't go on; the process must end then.
    """
    loop = asyncio.get_running_loop()
    store = await loop.run_in_executor(None, Store.open, config, files or RealFiles())
    service = Service(config, store)
    service.writer.start()
    listener = await loop.create_server(lambda: Connection(service), sock=sock)
    log.info("node %s serves %d blocks", store.identity.name, store.status().blocks)
    on_ready()
    try:
        await service.dead
    except asyncio.CancelledError:
        listener.close()
        service.stop()
        await loop.run_in_executor(None, service.finish)
        log.info("node %s stopped", store.identity.name)
        raise
    finally:
        listener.close()
        service.close()
