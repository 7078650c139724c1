"""What handlers work with: the catalog, the blobs and the settings of this front."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime

from catalog.engine import Catalog
from cluster.blob_reader import BlobReader
from cluster.blob_writer import BlobWriter
from cluster.budget import ByteBudget
from cluster.topology import NodeSet


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """The settings of one front (see compose.settings for where they come from)."""

    root_access_key: str
    root_secret_key: str = field(repr=False)
    region: str = "us-east-1"
    domains: tuple[str, ...] = ("localhost",)
    """Base domains of virtual-host-style requests: ``bucket.localhost`` names the bucket ``bucket``."""


@dataclass(frozen=True, slots=True)
class FrontServices:
    """Everything a handler may use. Clock and threads come in here, so that tests can bring their own."""

    catalog: Catalog
    nodes: NodeSet
    budget: ByteBudget
    """Bytes of request bodies that this front may hold at once; the reader has a budget of its own (S10, P8)."""
    writer: BlobWriter
    reader: BlobReader
    settings: FrontSettings
    digest_threads: Executor
    """Where hashes of large bodies are computed (hashlib releases the GIL)."""
    copy_slots: asyncio.Semaphore
    """Copies that move bytes hold memory for reading and for writing at once: few of them may run together, so that
    they can't use up the budget and wait for each other (P8)."""
    utc_now: Callable[[], datetime]
