"""What handlers work with: the catalog, the blobs and the settings of this front."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime

from catalog.engine import Catalog
from cluster.blob_reader import BlobReader
from cluster.blob_writer import BlobWriter
from cluster.budget import ByteBudget
from cluster.policies import REDUCED_REDUNDANCY
from cluster.topology import NodeSet
from s3front.auth.keys import KeyRing
from s3front.encryption.key_service import KeyService
from s3front.metrics.requests import RequestMetrics
from s3front.tracing import RequestTracer


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """The settings of one front (see compose.settings for where they come from)."""

    region: str = "us-east-1"
    domains: tuple[str, ...] = ("localhost",)
    """Base domains of virtual-host-style requests: ``bucket.localhost`` names the bucket ``bucket``."""
    log_requests: bool = False
    """Whether each request gets a line in the log."""
    metrics_token: str = field(default="", repr=False)
    """What a scrape of /-/metrics must bring; empty: anybody may read them."""


@dataclass(frozen=True, slots=True)
class FrontServices:
    """Everything a handler may use. Clock and threads come in here, so that tests can bring their own."""

    catalog: Catalog
    nodes: NodeSet
    budget: ByteBudget
    """Bytes of request bodies that this front may hold at once; the reader has a budget of its own (S10, P8)."""
    writer: BlobWriter
    """Of storage class STANDARD, and of all that are stored like it."""
    reader: BlobReader
    settings: FrontSettings
    keys: KeyRing
    """Who may do what: the root key and the catalog's access keys."""
    encryption: KeyService
    """Wraps the data keys of encrypted objects."""
    requests: RequestMetrics
    """Counts every request, and knows what the other fronts of this machine have counted."""
    digest_threads: Executor
    """Where hashes of large bodies are computed (hashlib releases the GIL)."""
    copy_slots: asyncio.Semaphore
    """Copies that move bytes hold memory for reading and for writing at once: few of them may run together, so that
    they can't use up the budget and wait for each other (P8)."""
    utc_now: Callable[[], datetime]
    tracer: RequestTracer | None = None
    """Makes a trace of each request, where somebody wants them."""
    processes: Callable[[], Mapping[str, int]] = dict
    """Process ids of the store's processes on this machine by name, as far as they are known. May read files."""
    reduced_writer: BlobWriter | None = None
    """Of storage class REDUCED_REDUNDANCY, where that is stored in another code (cluster.policies)."""

    def writer_for(self, storage_class: str) -> BlobWriter:
        """What writes the bytes of new objects and parts of that class."""
        if self.reduced_writer is not None and storage_class == REDUCED_REDUNDANCY:
            return self.reduced_writer
        return self.writer
