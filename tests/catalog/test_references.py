"""A model of names and bytes against the real catalog: after any sequence of puts, copies, deletes and multipart
uploads, failed ones too, and after collecting garbage, exactly the blobs that something names are left, each
with as many references as names, and nothing that is named was ever collected (S14, P6). Meanwhile blobs are
moved from layout to layout, by workers of which some come too late: each lies where the last move that counted
has put it, and no run of an earlier layout is left (S9, S20)."""

import asyncio
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from catalog import blobs, buckets, lookup, objects, placements, schema, sweeping, uploads, work
from catalog.errors import CatalogError, Changed, InvalidPart, PreconditionFailed
from catalog.model import (
    Attributes,
    BlobRow,
    Condition,
    NewBlob,
    PartRef,
    RequestedPart,
    Run,
    Source,
    UploadRow,
)
from catalog.statement import Reader, Statement
from tests.catalog.making import Clock, SqliteStore, copy, new_blob, put, source_of

T = TypeVar("T")

_REFS = Statement(sa.select(schema.blobs.c.id, schema.blobs.c.refs, schema.blobs.c.condemned))
_GARBAGE = Statement(sa.select(schema.garbage.c.blob_id))
_PARTS = Statement(sa.select(sa.func.count()).select_from(schema.parts))

_RUNS = Statement(sa.select(schema.blob_runs.c.blob_id))

_LAYOUTS = st.sampled_from([(1, 2, 3), (4, 2, 3), (1, 1, 0, 2, 2, 0)])
_KEYS = st.sampled_from([b"a", b"b", b"c"])
_NUMBERS = st.integers(1, 3)


class _Upload:
    """An open upload of the model: its row and, by part number, the blob and its ETag."""

    def __init__(self, row: UploadRow) -> None:
        self.row = row
        self.parts: dict[int, tuple[bytes, str]] = {}


class References(RuleBasedStateMachine):
    """Names: keys of one bucket, parts of open uploads, entries of manifests."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        self._runner = asyncio.Runner()
        self._clock = Clock()
        store = SqliteStore(Path(self._directory.name))
        self.catalog = store.open(self._clock)
        self._run(self.catalog.start())
        self.bucket_id = self._run(
            self.catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="owner", region="r"))
        ).id
        self.objects: dict[bytes, bytes] = {}  # key -> blob
        self.manifests: dict[bytes, list[bytes]] = {}  # composite blob -> parts
        self.uploads: list[_Upload] = []
        self.collected: set[bytes] = set()
        self.stale_source: Source | None = None
        self.layouts: dict[bytes, tuple[tuple[int, ...], tuple[Run, ...]]] = {}  # plain blob -> where it lies
        self.stale_layout: BlobRow | None = None

    def teardown(self) -> None:
        """All garbage is collected at the end of each run, and the books are compared."""
        try:
            self.compare_the_books()
        finally:
            self._run(self.catalog.close())
            self._runner.close()
            self._directory.cleanup()

    def compare_the_books(self) -> None:
        """After two grace periods nothing is left but what is named."""
        for _ in range(2):
            self._clock.now_ms += 2 * self.catalog.settings.grace_ms
            self.collect_garbage()
        self.what_is_named_is_there()
        held = {row[0] for row in self._read(lambda reader: reader.rows(_REFS))}
        assert held == set(self._names())
        assert self._read(lambda reader: reader.rows(_GARBAGE)) == []

    def _run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine)

    def _read(self, function: Any) -> Any:
        return self._run(self.catalog.read(function))

    def _write(self, function: Any, blob: NewBlob | None = None) -> Any:
        return self._run(self.catalog.write(function, blob=blob))

    def _names(self) -> Counter[bytes]:
        """Each blob with the number of its names, as far as objects and open uploads reach."""
        names: Counter[bytes] = Counter(self.objects.values())
        for upload in self.uploads:
            names.update(blob_id for blob_id, _ in upload.parts.values())
        # A composite blob names its parts as long as it exists, named itself or waiting for collection.
        for composite, parts in self.manifests.items():
            if composite not in self.collected:
                names.update(parts)
        return names

    @rule(key=_KEYS, later=st.lists(_LAYOUTS, max_size=1))
    def put(self, key: bytes, later: list[tuple[int, ...]]) -> None:
        """A new object, or over an old one; sometimes a node failed on the way."""
        blob = structs.replace(new_blob(), runs=tuple(Run(1, nodes) for nodes in later))
        self._run(put(self.catalog, self.bucket_id, key, blob))
        self.layouts[blob.id] = (blob.nodes, blob.runs)
        self.objects[key] = blob.id

    @rule(key=_KEYS)
    def put_is_refused(self, key: bytes) -> None:
        """Its blob becomes garbage."""
        condition = Condition(if_match="no such etag")
        try:
            self._run(put(self.catalog, self.bucket_id, key, condition=condition))
        except CatalogError:
            return
        raise AssertionError("the condition does not hold")

    @rule()
    def abandon(self) -> None:
        """A blob that never got a name; the next batch queues it."""
        self.catalog.abandon(new_blob())
        self._write(lambda tx: None)

    @rule(key=_KEYS)
    def delete(self, key: bytes) -> None:
        """Whether it is there or not."""
        result = self._write(lambda tx: objects.delete(tx, bucket_id=self.bucket_id, key=key))
        assert result.existed == (key in self.objects)
        self.objects.pop(key, None)

    @precondition(lambda self: self.objects)
    @rule(data=st.data(), key=_KEYS)
    def copy(self, data: st.DataObject, key: bytes) -> None:
        """To another key, or onto itself."""
        source = data.draw(st.sampled_from(sorted(self.objects)))
        self._run(self._copy(source, key))
        self.objects[key] = self.objects[source]

    async def _copy(self, source: bytes, key: bytes) -> None:
        await copy(self.catalog, await source_of(self.catalog, self.bucket_id, source), self.bucket_id, key)

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def look_at_a_source(self, data: st.DataObject) -> None:
        """For a copy that will take its time."""
        key = data.draw(st.sampled_from(sorted(self.objects)))
        self.stale_source = self._run(source_of(self.catalog, self.bucket_id, key))

    @precondition(lambda self: self.stale_source)
    @rule(key=_KEYS)
    def copy_what_was_looked_at(self, key: bytes) -> None:
        """Whatever has happened to it since."""
        source = self.stale_source
        assert source is not None
        try:
            self._run(copy(self.catalog, source, self.bucket_id, key))
        except Changed:
            return
        assert self.objects.get(source.key) == source.blob_id
        self.objects[key] = source.blob_id

    @rule(key=_KEYS)
    def begin_upload(self, key: bytes) -> None:
        """Several at a time, of one key too."""
        row = self._write(
            lambda tx: uploads.create(
                tx, bucket_id=self.bucket_id, key=key, owner="o", content_type="", attributes=Attributes()
            )
        )
        self.uploads.append(_Upload(row))

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), number=_NUMBERS)
    def upload_part(self, data: st.DataObject, number: int) -> None:
        """Or upload it again."""
        upload = data.draw(st.sampled_from(self.uploads))
        blob = new_blob()
        etag = blob.id.hex()
        self._write(
            lambda tx: uploads.put_part(tx, upload=upload.row, number=number, blob=blob, etag=etag), blob
        )
        upload.parts[number] = (blob.id, etag)
        self.layouts[blob.id] = (blob.nodes, blob.runs)

    @precondition(lambda self: self.uploads and self.objects)
    @rule(data=st.data(), number=_NUMBERS)
    def copy_part(self, data: st.DataObject, number: int) -> None:
        """By reference, of plain objects."""
        upload = data.draw(st.sampled_from(self.uploads))
        key = data.draw(st.sampled_from(sorted(self.objects)))
        blob_id = self.objects[key]
        if blob_id in self.manifests:
            return
        source = self._run(source_of(self.catalog, self.bucket_id, key))
        self._write(
            lambda tx: uploads.put_part_reference(
                tx, upload=upload.row, number=number, source=source, etag="copied"
            )
        )
        upload.parts[number] = (blob_id, "copied")

    @precondition(lambda self: any(upload.parts for upload in self.uploads))
    @rule(data=st.data(), late=st.booleans(), refused=st.booleans())
    def complete(self, data: st.DataObject, late: bool, refused: bool) -> None:
        """With some of the parts; `late`: a part is uploaded again between plan and commit; `refused`: by a
        condition."""
        upload = data.draw(st.sampled_from([one for one in self.uploads if one.parts]))
        numbers = sorted(data.draw(st.sets(st.sampled_from(sorted(upload.parts)), min_size=1)))
        requested = [RequestedPart(number, upload.parts[number][1]) for number in numbers]
        plan = self._read(
            lambda reader: uploads.plan_completion(reader, upload.row, requested, part_bytes_min=1)
        )
        condition = Condition(if_none_match="*") if refused else None
        if late:
            self._late_part(upload, numbers[0])
        try:
            self._write(
                lambda tx: uploads.complete(
                    tx, plan, etag="etag", attributes=Attributes(), condition=condition
                )
            )
        except Changed:
            assert late
            return
        except PreconditionFailed:
            assert refused
            assert upload.row.key in self.objects
            return
        assert not late
        row = self._run(lookup.lookup(self.catalog, self.bucket_id, upload.row.key))
        parts: tuple[PartRef, ...] = row.blob.manifest
        assert [part.blob_id for part in parts] == [upload.parts[number][0] for number in numbers]
        self.manifests[row.blob.id] = [part.blob_id for part in parts]
        self.objects[upload.row.key] = row.blob.id
        self.uploads.remove(upload)

    def _late_part(self, upload: _Upload, number: int) -> None:
        blob = new_blob()
        etag = blob.id.hex()
        self._write(
            lambda tx: uploads.put_part(tx, upload=upload.row, number=number, blob=blob, etag=etag), blob
        )
        requested = [RequestedPart(number, upload.parts[number][1])]
        upload.parts[number] = (blob.id, etag)
        try:
            self._read(
                lambda reader: uploads.plan_completion(reader, upload.row, requested, part_bytes_min=1)
            )
        except InvalidPart:
            return
        raise AssertionError("the replaced part is still listed")

    @precondition(lambda self: self.uploads)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        """All its parts lose their names."""
        upload = data.draw(st.sampled_from(self.uploads))
        self._write(lambda tx: uploads.abort(tx, upload.row))
        self.uploads.remove(upload)

    @precondition(lambda self: self.layouts)
    @rule(data=st.data())
    def look_at_a_layout(self, data: st.DataObject) -> None:
        """For a repair that will take its time."""
        blob_id = data.draw(st.sampled_from(sorted(self.layouts)))
        self.stale_layout = self._run(lookup.blob(self.catalog, blob_id))

    @precondition(lambda self: self.stale_layout)
    @rule(nodes=_LAYOUTS, later=st.lists(_LAYOUTS, max_size=2))
    def move_what_was_looked_at(self, nodes: tuple[int, ...], later: list[tuple[int, ...]]) -> None:
        """Whatever has happened to it since."""
        old = self.stale_layout
        assert old is not None
        runs = tuple(Run(number + 1, one) for number, one in enumerate(later))
        moved = self._write(lambda tx: placements.move(tx, old.id, old=old, nodes=nodes, runs=runs))
        expected = self._names()[old.id] > 0 and self.layouts.get(old.id) == (old.nodes, old.runs)
        assert moved == expected
        if moved:
            self.layouts[old.id] = (nodes, runs)

    @rule()
    def time_passes(self) -> None:
        """Half the grace period."""
        self._clock.now_ms += self.catalog.settings.grace_ms // 2 + 1

    @rule()
    def collect_garbage(self) -> None:
        """Everything that is due, as the steward does it."""
        while sweeps := self._read(lambda reader: sweeping.due_sweeps(reader, 10)):
            for sweep_id in sweeps:
                self._write(lambda tx, number=sweep_id: sweeping.sweep(tx, number, 2))
        while due := self._read(self._due):
            for item in due:
                self._collect(item.blob_id)

    def _due(self, reader: Reader) -> Any:
        return work.due_garbage(reader, self.catalog.placements, now_ms=self._clock.now_ms, limit=3)

    def _collect(self, blob_id: bytes) -> None:
        if self._write(lambda tx: work.condemn(tx, blob_id)) is None:
            return
        assert self._names()[blob_id] == 0, "a blob that something names was condemned"
        while not self._write(lambda tx: work.collected(tx, blob_id)):
            pass
        self.collected.add(blob_id)
        self.layouts.pop(blob_id, None)

    @invariant()
    def what_is_named_is_there(self) -> None:
        """With exactly as many references as names, and not condemned; no part rows but of open uploads."""
        if not hasattr(self, "catalog"):
            return
        names = self._names()
        held = {row[0]: (row[1], row[2]) for row in self._read(lambda reader: reader.rows(_REFS))}
        for blob_id, count in names.items():
            assert held.get(blob_id) == (count, 0)
        queued = {row[0] for row in self._read(lambda reader: reader.rows(_GARBAGE))}
        assert not queued & set(names)
        assert {blob_id for blob_id, (refs, _) in held.items() if refs == 0} <= queued
        rows = self._read(lambda reader: blobs.by_ids(reader, self.catalog.placements, self.layouts))
        assert {row.id: (row.nodes, row.runs) for row in rows.values()} == self.layouts
        runs = Counter(row[0] for row in self._read(lambda reader: reader.rows(_RUNS)))
        assert runs == {blob_id: len(runs) for blob_id, (_, runs) in self.layouts.items() if runs}
        (parts,) = self._read(lambda reader: reader.row(_PARTS))
        assert parts == sum(len(upload.parts) for upload in self.uploads)


TestReferences = References.TestCase
TestReferences.settings = settings(max_examples=40, stateful_step_count=40)
