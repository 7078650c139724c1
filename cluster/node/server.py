"""A node process from start to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

from cluster.node.config import NodeConfig
from cluster.node.connection import Connection
from cluster.node.files import FileLayer, RealFiles
from cluster.node.service import Service
from cluster.node.store import Store
from cluster.tracing import NodeTracer

log = logging.getLogger("trivet.node")


async def serve(
    config: NodeConfig, sock: socket.socket, on_ready: Callable[[], None], tracer: NodeTracer | None = None
) -> None:
    """Run a node on the listening `sock` until cancelled; then finish, sync and close everything.

    `on_ready` is called once requests are served. Raises NodeRefused (S23) or OSError when the directory
    can't be served, RuntimeError when the node can't go on; the process must end then.
    """
    await run(await open_service(config, RealFiles()), sock, on_ready, tracer)


def _connection(service: Service, tracer: NodeTracer | None) -> Connection:
    if tracer is None:
        return Connection(service)
    from cluster.node.traced import TracedConnection

    return TracedConnection(service, tracer)


async def open_service(config: NodeConfig, files: FileLayer) -> Service:
    """Take the directory and recover, in a thread: the loop goes on meanwhile."""
    store = await asyncio.get_running_loop().run_in_executor(None, Store.open, config, files)
    return Service(config, store)


async def run(
    service: Service, sock: socket.socket, on_ready: Callable[[], None], tracer: NodeTracer | None = None
) -> None:
    """The second half of `serve`. Owns `service` from now on."""
    loop = asyncio.get_running_loop()
    store = service.store
    service.start()
    listener = await loop.create_server(partial(_connection, service, tracer), sock=sock)
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
    except RuntimeError:
        service.stop()
        await loop.run_in_executor(None, service.abandon)
        raise
    finally:
        listener.close()
        service.close()
