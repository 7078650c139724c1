"""What catalog tests are made of: a clock that is set by hand, blobs as a front would hand them over, and the
store behind a catalog, one class for each database the contract suite runs on."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

import catalog as catalog_package
from catalog import lookup, objects
from catalog.engine import Catalog, CatalogSettings
from catalog.model import Attributes, Condition, NewBlob, PutResult, Source
from tests import postgres
from tests.catalog.fresh import fresh_catalog
from tests.postgres import PostgresServer, drop_database, new_database

ROOT = Path(catalog_package.__file__).parent.parent
CLUSTER_ID = postgres.CLUSTER_ID
ETAG = "d41d8cd98f00b204e9800998ecf8427e"
NO_ATTRIBUTES = Attributes()
SQLITE_ONLY = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
"""For a test of the file, its lock, or SQLite's own words; it needs the fixture `store` or one that stands on it."""

_counter = itertools.count(1)


class Clock:
    """Wall clock in milliseconds, moved by the test."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Store(Protocol):
    """An empty catalog that can be opened several times, as several processes would."""

    def open(self, clock: Clock, settings: CatalogSettings | None = None) -> Catalog:
        """One more opening, not started."""


class PostgresStore:
    """A database of the test's own on the server that all tests share: the one at `url`, or a new one."""

    def __init__(self, server: PostgresServer, url: str | None = None) -> None:
        self.server = server
        self.url = new_database(server) if url is None else url

    def open(self, clock: Clock, settings: CatalogSettings | None = None) -> Catalog:
        """One more opening, not started."""
        return Catalog.open(self.url, settings or small_settings(), clock=clock)

    def drop(self) -> None:
        """Once nobody has it open any more."""
        drop_database(self.server, self.url)


class SqliteStore:
    """A catalog file that can be opened several times, as several processes would."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "catalog.sqlite"
        fresh_catalog(self.path, cluster_id=CLUSTER_ID)

    def open(self, clock: Clock, settings: CatalogSettings | None = None) -> Catalog:
        """One more opening, not started."""
        return Catalog.open(self.path, settings or small_settings(), clock=clock, on_fatal=fail_on_fatal)


def fail_on_fatal(error: BaseException) -> None:
    """No test may end the test process."""
    raise AssertionError("the catalog would have ended the process") from error


def small_settings(
    *,
    lock_wait_s: float = 2.0,
    waiting_writes_max: int = 4096,
    batch_writes_max: int = 64,
    wal_bytes_max: int = 16 << 20,
    ballast_bytes: int = 1 << 16,
) -> CatalogSettings:
    """Settings with little ballast."""
    return CatalogSettings(
        lock_wait_s=lock_wait_s,
        waiting_writes_max=waiting_writes_max,
        batch_writes_max=batch_writes_max,
        wal_bytes_max=wal_bytes_max,
        ballast_bytes=ballast_bytes,
    )


def new_blob(
    *, epoch: int = 1, size: int = 4096, nodes: tuple[int, ...] = (1, 2, 3), stripes: int = 1
) -> NewBlob:
    """A blob with an id of its own, as durable on its nodes."""
    blob_id = epoch.to_bytes(4, "big") + next(_counter).to_bytes(4, "big") + os.urandom(8)
    return NewBlob(blob_id, size, len(nodes) - 1, 1, 1 << 20, nodes, stripes)


async def put(
    catalog: Catalog,
    bucket_id: int,
    key: bytes,
    blob: NewBlob | None = None,
    *,
    etag: str = ETAG,
    condition: Condition | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
) -> PutResult:
    """Commit a blob (a new one by default) under a key, as PutObject does."""
    committed = blob or new_blob()
    return await catalog.write(
        lambda tx: objects.put(
            tx,
            bucket_id=bucket_id,
            key=key,
            blob=committed,
            etag=etag,
            content_type="binary/octet-stream",
            attributes=attributes,
            condition=condition,
        ),
        blob=committed,
    )


async def copy(catalog: Catalog, source: Source, bucket_id: int, key: bytes) -> PutResult:
    """Commit a copy, as CopyObject does."""
    return await catalog.write(
        lambda tx: objects.copy(
            tx,
            source=source,
            bucket_id=bucket_id,
            key=key,
            etag=ETAG,
            content_type="binary/octet-stream",
            attributes=NO_ATTRIBUTES,
        )
    )


async def source_of(catalog: Catalog, bucket_id: int, key: bytes) -> Source:
    """What a copy of the key's current version is prepared from."""
    row = await lookup.lookup(catalog, bucket_id, key)
    assert row is not None
    return Source(bucket_id, key, row.blob.id, row.sequence)


def start_child(*arguments: str) -> subprocess.Popen[str]:
    """A process of its own over the same code: see `tests/catalog/child.py`."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("child.py")), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_line(child: subprocess.Popen[str], line: str) -> None:
    """Until the child has said this as its next line."""
    assert child.stdout is not None
    said = child.stdout.readline().strip()
    assert said == line, f"child said {said!r}"
