"""The process of one S3 front: puts its parts together from the settings and serves."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import socket
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from catalog import lookup
from cluster import wire
from cluster.blob_reader import BlobReader
from cluster.blob_writer import BlobIds, BlobWriter
from cluster.budget import ByteBudget
from cluster.tracing import no_trace
from codec.geometry import Geometry
from compose import credentials, listening
from compose.admin_services import admin_services
from compose.data_dir import DataDir
from compose.fault_reporter import FaultReporter
from compose.front_figures import recorder
from compose.http_server import serve_http
from compose.join_token import cluster_secret
from compose.process import OnReady, run_until_stopped
from compose.running import processes
from compose.settings import Settings
from compose.storage_policies import storage_policies
from compose.tracing import Tracing, traces_to
from compose.wiring import catalog_log, connected_nodes, opened_catalog
from s3front.app import create_app
from s3front.auth.keys import KeyRing
from s3front.auth.sealing import Sealer
from s3front.blob_store import new_blob
from s3front.encryption.local_keys import LocalKeys
from s3front.encryption.ring_sealing import RingSealer
from s3front.join import JoinDesk
from s3front.services import FrontServices, FrontSettings

log = logging.getLogger("trivet.compose")

DIGEST_THREADS = 2
GC_ALLOCATIONS = 20_000
"""A request leaves no cycles behind; looking for some every 700 allocations cost each one several microseconds."""
COPIES_AT_ONCE = 4


def run_front_process(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    listener: socket.socket,
    supervisor_fd: int | None,
    name: str = "front",
) -> None:
    """Serves S3 on `listener` until told to stop. Raises StartRefused when catalog or credentials can't be used."""

    async def work_of_front(on_ready: OnReady) -> None:
        with traces_to(settings.trace_url, name) as tracer:
            await serve(on_ready, tracer)

    async def serve(on_ready: OnReady, tracer: Tracing | None) -> None:
        async with front_services(settings, environment, name, tracer) as services:
            desk = JoinDesk(services.catalog, services.nodes, cluster_secret(settings))
            app = create_app(admin_services(services, settings), desk.route)
            # What is there now stays: the collector need not walk through it at each full collection.
            gc.collect()
            gc.freeze()
            gc.set_threshold(GC_ALLOCATIONS, 20, 20)

            def ready() -> None:
                on_ready()
                if supervisor_fd is None:  # else `trivet up` says it, once for all
                    log.info("serves S3 at %s", listening.url(listener))

            await serve_http(
                app,
                listener,
                keep_alive_s=settings.keep_alive_s,
                stop_wait_s=settings.stop_wait_s,
                on_ready=ready,
            )

    run_until_stopped(
        work_of_front, supervisor_fd=supervisor_fd, stop_wait_s=settings.stop_wait_s, own_signals=True
    )


@asynccontextmanager
async def front_services(
    settings: Settings,
    environment: Mapping[str, str],
    name: str = "front",
    tracer: Tracing | None = None,
) -> AsyncIterator[FrontServices]:
    """Everything a front works with, started, and closed at the end."""
    place = DataDir(settings.data)
    root = credentials.load(place, environment)
    secret = cluster_secret(settings)
    # Two budgets, because a copy reads and writes at once and must not wait for itself.
    half = settings.front_stripe_bytes_max // 2
    trace_context = tracer.context if tracer is not None else no_trace
    write_budget, read_budget = ByteBudget(half), ByteBudget(half)
    policies, blob_ids = storage_policies(settings), BlobIds()
    async with (
        opened_catalog(settings, wait_s=math.inf) as catalog,
        connected_nodes(settings, catalog, wire.Role.FRONT, trace_context) as node_set,
        recorder(
            place, name, catalog, node_set, write_budget=write_budget, read_budget=read_budget
        ) as requests,
    ):
        catalog_log(catalog, node_set)

        def writer(geometry: Geometry) -> BlobWriter:
            return BlobWriter(
                node_set,
                geometry,
                write_budget,
                blob_ids,
                on_abandoned=lambda receipt: catalog.abandon(new_blob(receipt)),
            )

        faults = FaultReporter(catalog)
        with ThreadPoolExecutor(DIGEST_THREADS, thread_name_prefix="digest") as digest_threads:
            async with asyncio.TaskGroup() as tasks:
                reporter = tasks.create_task(faults.run(), name="fault reporter")
                yield FrontServices(
                    catalog=catalog,
                    nodes=node_set,
                    budget=write_budget,
                    writer=writer(policies.standard),
                    reduced_writer=None if policies.is_uniform else writer(policies.reduced),
                    reader=BlobReader(
                        node_set,
                        read_budget,
                        lambda blob_id: lookup.blob(catalog, blob_id),
                        faults.report,
                    ),
                    settings=FrontSettings(
                        region=settings.region,
                        domains=settings.domains,
                        log_requests=settings.log_requests == "all",
                        metrics_token=credentials.metrics_token(environment),
                    ),
                    keys=KeyRing(
                        catalog,
                        Sealer(secret),
                        root_access_key=root.access_key,
                        root_secret_key=root.secret_key,
                    ),
                    encryption=LocalKeys(catalog, RingSealer(secret)),
                    requests=requests,
                    digest_threads=digest_threads,
                    copy_slots=asyncio.Semaphore(COPIES_AT_ONCE),
                    utc_now=lambda: datetime.now(UTC),
                    tracer=tracer,
                    processes=lambda: processes(place),
                )
                reporter.cancel()
