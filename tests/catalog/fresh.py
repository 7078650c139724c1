"""New catalogs in a millisecond: copies of one that was made as stores make theirs, each with an identity of its own.

Not for tests of how a catalog is made.
"""

import atexit
import os
import shutil
import tempfile
import time
from contextlib import closing
from functools import cache
from pathlib import Path

from pysqlite3 import dbapi2

from catalog import engine


@cache
def _pattern(cluster_id: bytes) -> Path:
    folder = tempfile.mkdtemp(prefix="trivet-catalog-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "catalog.sqlite"
    engine.create(path, cluster_id=cluster_id, nodes_hold_data=False)
    return path


def fresh_catalog(path: Path, *, cluster_id: bytes) -> None:
    """What `engine.create` leaves for a store without nodes. The pages are copied as they are, so that nothing of
    the file's form is lost; only what is each catalog's own is written anew."""
    shutil.copy(_pattern(cluster_id), path)
    now_ms = time.time_ns() // 1_000_000
    with closing(dbapi2.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # no test cuts the power before its catalog is there
        connection.execute(
            "UPDATE meta SET catalog_id = ?, clock_ms = ?, created_ms = ?", (os.urandom(16), now_ms, now_ms)
        )
