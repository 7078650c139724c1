"""The catalog alone as a store of the model: what a front would do, without bytes, nodes and HTTP."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from msgspec import structs

from catalog import (
    buckets,
    listing,
    locks,
    lookup,
    objects,
    sweeping,
    uploads,
    version_listing,
    work,
)
from catalog import model as catalog_model
from catalog.bucket_model import LockConfiguration
from catalog.engine import Catalog
from catalog.errors import CatalogError
from catalog.model import (
    Attributes,
    Condition,
    DeleteResult,
    MarkerRow,
    ObjectRow,
    RequestedPart,
    Retention,
    Source,
)
from catalog.statement import Reader
from catalog.transaction import Transaction
from catalog.usage_changes import Usage
from tests.catalog.making import Clock, PostgresStore, SqliteStore, new_blob
from tests.model.books import check_books
from tests.model.steps import (
    Answer,
    Copy,
    Delete,
    DeleteVersion,
    Hold,
    If,
    Listed,
    Lock,
    Put,
    Refused,
    Rename,
    Retain,
    Seen,
    Step,
    Tag,
    Turn,
)
from tests.postgres import PostgresServer

T = TypeVar("T")

FAR_MS = 4_102_444_800_000
"""The year 2100: from here the model's days of retention are counted."""
DAY_MS = 86_400_000


def _condition(condition: If | None) -> Condition | None:
    return None if condition is None else Condition(condition.match, condition.none_match)


def _attributes(put: Put) -> Attributes:
    return Attributes(tags=dict(put.tags), metadata=dict(put.metadata), retention=_retention(put.lock))


def _retention(lock: Lock | None) -> Retention | None:
    return None if lock is None else Retention(lock.mode, FAR_MS + lock.days * DAY_MS)


def seen(row: ObjectRow) -> Seen:
    kept = row.attributes
    lock = None
    if kept.retention is not None:
        lock = Lock(kept.retention.mode, (kept.retention.until_ms - FAR_MS) // DAY_MS)
    pairs = tuple(sorted(kept.tags.items())), tuple(sorted(kept.metadata.items()))
    return Seen(row.etag, row.size, *pairs, lock, bool(kept.legal_hold))


class CatalogStore:
    """A catalog with one bucket. `restart` comes with a crash: what was committed is all that is left."""

    part_bytes_min = 1
    trouble_share = 0.03

    def __init__(self, folder: Path, *, locking: bool) -> None:
        self._folder = folder
        self._runner = asyncio.Runner()
        self._clock = Clock()
        self.catalog = self._opened()
        self._run(self.catalog.start())
        lock = LockConfiguration() if locking else None
        versioning = catalog_model.Versioning.ENABLED if locking else catalog_model.Versioning.NEVER
        self.bucket_id = self._write(
            lambda tx: buckets.create(tx, name="b", owner="o", region="r", versioning=versioning, lock=lock)
        ).id
        self._versioned = locking
        self._crashes = 0

    def close(self) -> None:
        self._run(self.catalog.close())
        self._runner.close()

    def _opened(self) -> Catalog:
        self._store = SqliteStore(self._folder)
        return self._store.open(self._clock)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)

    def _write(self, function: Callable[[Transaction], T], blob: catalog_model.NewBlob | None = None) -> T:
        try:
            return self._run(self.catalog.write(function, blob=blob))
        except CatalogError as error:
            raise Refused(type(error).__name__) from error

    def _read(self, function: Callable[[Reader], T]) -> T:
        return self._run(self.catalog.read(function))

    # -- steps -----------------------------------------------------------------------------------------------

    def do(self, step: Step) -> Answer:
        match step:
            case Turn(versioning):
                state = catalog_model.Versioning[versioning.upper()]
                self._write(lambda tx: buckets.set_versioning(tx, self.bucket_id, state))
                self._versioned = True
                return Answer()
            case Put():
                return Answer(self._complete(step) if step.body.multipart else self._put(step))
            case Copy():
                return Answer(self._copy(step))
            case Rename(source, key):
                self._rename(source, key)
                return Answer()
            case Delete(key, condition):
                done = self._write(
                    lambda tx: objects.delete(
                        tx, bucket_id=self.bucket_id, key=key.encode(), condition=_condition(condition)
                    )
                )
                return Answer(done.version_id, done.delete_marker)
            case DeleteVersion():
                done = self._delete_version(step)
                return Answer(done.version_id if self._versioned else None, done.delete_marker)
            case Tag(key, version, tags):
                return Answer(
                    self._change(key, version, lambda _, old: structs.replace(old, tags=dict(tags)))
                )
            case Hold(key, version, on):
                self._change(key, version, lambda _, old: structs.replace(old, legal_hold=on))
                return Answer()
            case Retain():
                self._retain(step)
                return Answer()

    def _delete_version(self, step: DeleteVersion) -> DeleteResult:
        return self._write(
            lambda tx: objects.delete_version(
                tx,
                bucket_id=self.bucket_id,
                key=step.key.encode(),
                version_id=step.version,
                bypass_governance=step.bypass,
            )
        )

    def _put(self, put: Put) -> str | None:
        blob = new_blob(size=put.body.size)
        return self._write(
            lambda tx: objects.put(
                tx,
                bucket_id=self.bucket_id,
                key=put.key.encode(),
                blob=blob,
                etag=put.body.etag,
                content_type="",
                attributes=_attributes(put),
                condition=_condition(put.condition),
            ),
            blob,
        ).version_id

    def _complete(self, put: Put) -> str | None:
        upload = self._write(
            lambda tx: uploads.create(
                tx,
                bucket_id=self.bucket_id,
                key=put.key.encode(),
                owner="o",
                content_type="",
                attributes=_attributes(put),
            )
        )
        requested = []
        for number, part in enumerate(put.body.parts, 1):
            blob = new_blob(size=len(part))
            self._write(_putting(upload, number, blob), blob)
            requested.append(RequestedPart(number, str(number)))
        plan = self._read(lambda reader: _planned(reader, upload, requested))
        try:
            return self._write(
                lambda tx: uploads.complete(
                    tx,
                    plan,
                    etag=put.body.etag,
                    attributes=_attributes(put),
                    condition=_condition(put.condition),
                )
            ).version_id
        except Refused:
            self._write(lambda tx: uploads.abort(tx, plan.upload))
            raise

    def _source(self, key: str, version: str | None) -> tuple[Source, ObjectRow]:
        row = self._found(key, version)
        if row is None:
            raise Refused("NoSuchKey" if version is None else "NoSuchVersion")
        if isinstance(row, MarkerRow):
            raise Refused("IsDeleteMarker")
        return Source(self.bucket_id, row.key, row.blob.id, row.sequence), row

    def _found(self, key: str, version: str | None) -> ObjectRow | MarkerRow | None:
        if version is None:
            return self._run(lookup.lookup(self.catalog, self.bucket_id, key.encode()))
        return self._run(lookup.lookup_version(self.catalog, self.bucket_id, key.encode(), version))

    def _copy(self, step: Copy) -> str | None:
        source, row = self._source(step.source, step.version)
        kept = Attributes(
            tags=row.attributes.tags if step.tags is None else dict(step.tags),
            metadata=row.attributes.metadata if step.metadata is None else dict(step.metadata),
        )
        return self._write(
            lambda tx: objects.copy(
                tx,
                source=source,
                bucket_id=self.bucket_id,
                key=step.key.encode(),
                etag=row.etag,
                content_type="",
                attributes=kept,
                condition=_condition(step.condition),
            )
        ).version_id

    def _rename(self, old: str, key: str) -> None:
        source, row = self._source(old, None)
        self._write(
            lambda tx: objects.rename(
                tx,
                source=source,
                bucket_id=self.bucket_id,
                key=key.encode(),
                etag=row.etag,
                content_type="",
                attributes=row.attributes,
            )
        )

    def _change(
        self, key: str, version: str | None, change: Callable[[Transaction, Attributes], Attributes]
    ) -> str | None:
        return self._write(
            lambda tx: objects.change_attributes(
                tx,
                bucket_id=self.bucket_id,
                key=key.encode(),
                version_id=version,
                change=lambda old: change(tx, old),
            )
        )

    def _retain(self, step: Retain) -> None:
        new = _retention(step.lock)

        def change(tx: Transaction, old: Attributes) -> Attributes:
            locks.check_change(tx, old.retention, new, bypass_governance=step.bypass)
            return structs.replace(old, retention=new)

        self._change(step.key, step.version, change)

    # -- what is there ---------------------------------------------------------------------------------------

    def versions(self, page: int) -> list[Listed]:
        """All of ListObjectVersions, in pages of that size."""
        found: list[Listed] = []
        key_marker, version_marker = b"", ""
        while True:
            got = self._read(
                lambda reader, key=key_marker, version=version_marker: version_listing.list_versions(  # type: ignore[misc]
                    reader, bucket_id=self.bucket_id, key_marker=key, version_marker=version, limit=page
                )
            )
            found += [
                Listed(one.key.decode(), one.version_id, one.is_latest, one.delete_marker, one.etag, one.size)
                for one in got.entries
            ]
            if not got.truncated:
                return found
            key_marker, version_marker = got.next_key, got.next_version

    def keys(self) -> list[str]:
        """As a plain LIST has them."""
        page = self._read(lambda reader: listing.list_objects(reader, bucket_id=self.bucket_id))
        return [entry.key.decode() for entry in page.entries]

    def read(self, key: str, version: str | None) -> Seen:
        """Raises Refused."""
        return seen(self._source(key, version)[1])

    def check_books(self, expected: Usage) -> None:
        self._run(check_books(self.catalog, self.bucket_id, expected))

    # -- what happens to it ----------------------------------------------------------------------------------

    def trouble(self, random: Random) -> str:
        """Something from outside, of which no step may see anything."""
        return random.choice((self._crash, self._collect))()

    def _crash(self) -> str:
        """The files as they are while the catalog is open are what a killed process leaves."""
        self._crashes += 1
        left = self._folder / f"crash-{self._crashes}"
        left.mkdir()
        for path in self._folder.glob("catalog.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, left / path.name)
        self._run(self.catalog.close())
        for path in self._folder.glob("catalog.sqlite*"):
            path.unlink()
        for path in left.iterdir():
            path.rename(self._folder / path.name)
        self.catalog = self._store.open(self._clock)
        self._run(self.catalog.start())
        return "crash"

    def _collect(self) -> str:
        """All garbage, as the steward does it after the grace period."""
        self._clock.now_ms += 2 * self.catalog.settings.grace_ms
        while sweeps := self._read(lambda reader: sweeping.due_sweeps(reader, 10)):
            for number in sweeps:
                self._write(lambda tx, number=number: sweeping.sweep(tx, number, 2))  # type: ignore[misc]
        while due := self._read(
            lambda reader: work.due_garbage(
                reader, self.catalog.placements, now_ms=self._clock.now_ms, limit=10
            )
        ):
            for item in due:
                self._collect_one(item.blob_id)
        return "collect"

    def _collect_one(self, blob_id: bytes) -> None:
        if self._write(lambda tx: work.condemn(tx, blob_id)) is not None:
            while not self._write(lambda tx: work.collected(tx, blob_id)):
                pass


def _putting(
    upload: catalog_model.UploadRow, number: int, blob: catalog_model.NewBlob
) -> Callable[[Transaction], None]:
    def function(tx: Transaction) -> None:
        uploads.put_part(tx, upload=upload, number=number, blob=blob, etag=str(number))

    return function


def _planned(
    reader: Reader, upload: catalog_model.UploadRow, requested: list[RequestedPart]
) -> catalog_model.CompletionPlan:
    return uploads.plan_completion(reader, upload, requested, part_bytes_min=1)


class PostgresCatalogStore(CatalogStore):
    """The same on PostgreSQL. A crash is one of the server, under the open catalog, which has to find it again."""

    def _opened(self) -> Catalog:
        self._server = PostgresServer(settings=("fsync=off",))  # the machine lives on
        self._server.start()
        return PostgresStore(self._server).open(self._clock)

    def _crash(self) -> str:
        self._server.kill()
        self._server.start()
        return "crash"

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._server.close()
