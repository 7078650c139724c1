"""A model of buckets and their bytes against the real books: any sequence of operations, refused ones and failing ones
among them, gathered in batches as fronts would gather them. After each batch the books are what the model says, and
what a count of the rows says; a quota refuses exactly what the model refuses.

Red when one operation did not count (delete; complete), when a refused request counted, when a batch's own changes
were left out of a quota's check, and when books came back for a bucket deleted in the same batch as its last object."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from catalog import buckets, objects, uploads, usage
from catalog.errors import BucketNotEmpty, NoSuchBucket, NoSuchUpload, PreconditionFailed, QuotaExceeded
from catalog.model import Attributes, Condition, NewBlob, RequestedPart, Source, UploadRow
from catalog.transaction import Transaction
from catalog.usage_changes import Usage
from tests.catalog.making import ETAG, NO_ATTRIBUTES, Clock, SqliteStore, new_blob, source_of

_NAMES = st.sampled_from(["one", "two"])
_KEYS = st.sampled_from([b"a", b"b", b"c"])
_SIZES = st.sampled_from([0, 1, 10, 20])
_SELDOM = st.sampled_from([False] * 7 + [True])
_QUOTAS = st.sampled_from([None, 0, 15, 25, 30])


class _Broken(Exception):
    """What a request of the test raises itself."""


class _Bucket:
    """A bucket of the model: bytes by key."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sizes: dict[bytes, int] = {}
        self.quota_bytes: int | None = None

    def usage(self) -> Usage:
        return Usage(len(self.sizes), len(self.sizes), sum(self.sizes.values()))

    def refuses(self, key: bytes, size: int) -> bool:
        used = sum(self.sizes.values())
        growth = size - self.sizes.get(key, 0)
        return self.quota_bytes is not None and growth > 0 and used + growth > self.quota_bytes


class _Request:
    """One write of a batch, and the refusal that the model expects of it."""

    def __init__(
        self,
        function: Callable[[Transaction], Any],
        *,
        blob: NewBlob | None = None,
        refusal: type[Exception] | None = None,
    ) -> None:
        self.function = function
        self.blob = blob
        self.refusal = refusal


class Books(RuleBasedStateMachine):
    """Two names of buckets, which come and go."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = TemporaryDirectory()
        self._runner = asyncio.Runner()
        self.catalog = SqliteStore(Path(self._directory.name)).open(Clock())
        self._runner.run(self.catalog.start())
        self.buckets: dict[str, _Bucket] = {}
        self.batch: list[_Request] = []
        for name in ("one", "two"):
            self.create_bucket(name, 30)

    def teardown(self) -> None:
        """What waits is committed and compared too."""
        try:
            self.commit()
            self.books_are_right()
        finally:
            self._runner.run(self.catalog.close())
            self._runner.close()
            self._directory.cleanup()

    def _ask(self, request: _Request) -> None:
        self.batch.append(request)

    @rule()
    def commit(self) -> None:
        """All that was asked for since the last time, in one batch."""
        batch, self.batch = self.batch, []

        async def together() -> list[Any]:
            return await asyncio.gather(
                *(self.catalog.write(one.function, blob=one.blob) for one in batch), return_exceptions=True
            )

        for request, outcome in zip(batch, self._runner.run(together()), strict=True):
            refused = type(outcome) if isinstance(outcome, BaseException) else None
            assert refused is request.refusal

    @rule(name=_NAMES, quota_bytes=_QUOTAS)
    def create_bucket(self, name: str, quota_bytes: int | None) -> None:
        """By itself: the model needs its number."""
        self.commit()
        if name not in self.buckets:
            made = self._runner.run(
                self.catalog.write(lambda tx: buckets.create(tx, name=name, owner="o", region="r"))
            )
            self.buckets[name] = _Bucket(made.id)
            self._limit(self.buckets[name], quota_bytes)

    @precondition(lambda self: self.buckets)
    @rule(data=st.data(), emptied=st.booleans())
    def delete_bucket(self, data: st.DataObject, emptied: bool) -> None:
        """Refused unless it is empty; `emptied`: in the same batch."""
        name = data.draw(st.sampled_from(sorted(self.buckets)))
        bucket = self.buckets[name]
        if emptied:
            self._delete(bucket, set(bucket.sizes))
        refusal = BucketNotEmpty if bucket.sizes else None
        self._ask(_Request(lambda tx: buckets.delete(tx, bucket.number), refusal=refusal))
        if refusal is None:
            del self.buckets[name]

    @precondition(lambda self: self.buckets)
    @rule(data=st.data(), key=_KEYS, size=_SIZES, late=_SELDOM)
    def put(self, data: st.DataObject, key: bytes, size: int, late: bool) -> None:
        """`late`: to a bucket that an earlier request of the batch may delete."""
        name = data.draw(st.sampled_from(sorted(self.buckets)))
        bucket, blob = self.buckets[name], new_blob(size=size)
        if late and not bucket.sizes:
            self.batch.append(_Request(lambda tx: buckets.delete(tx, bucket.number)))
            del self.buckets[name]
            self._ask(_Request(_putting(bucket.number, key, blob), blob=blob, refusal=NoSuchBucket))
            return
        refusal = QuotaExceeded if bucket.refuses(key, size) else None
        self._ask(_Request(_putting(bucket.number, key, blob), blob=blob, refusal=refusal))
        if refusal is None:
            bucket.sizes[key] = size

    @precondition(lambda self: self.buckets)
    @rule(data=st.data(), key=_KEYS)
    def put_is_refused(self, data: st.DataObject, key: bytes) -> None:
        """By a condition."""
        bucket = self.buckets[data.draw(st.sampled_from(sorted(self.buckets)))]
        if key in bucket.sizes:
            blob, condition = new_blob(size=7), Condition(if_none_match="*")
            function = _putting(bucket.number, key, blob, condition)
            self._ask(_Request(function, blob=blob, refusal=PreconditionFailed))

    @precondition(lambda self: self.buckets)
    @rule(data=st.data(), key=_KEYS)
    def fail_half_way(self, data: st.DataObject, key: bytes) -> None:
        """After it has put one object and deleted others."""
        bucket = self.buckets[data.draw(st.sampled_from(sorted(self.buckets)))]
        blob = new_blob(size=0)

        def function(tx: Transaction) -> None:
            _putting(bucket.number, key, blob)(tx)
            for gone in (b"a", b"b"):
                objects.delete(tx, bucket_id=bucket.number, key=gone)
            raise _Broken

        self._ask(_Request(function, blob=blob, refusal=_Broken))

    @precondition(lambda self: self.buckets)
    @rule(data=st.data(), keys=st.sets(_KEYS, min_size=1))
    def delete(self, data: st.DataObject, keys: set[bytes]) -> None:
        """One or several keys in one transaction, whether they are there or not."""
        self._delete(self.buckets[data.draw(st.sampled_from(sorted(self.buckets)))], keys)

    def _delete(self, bucket: _Bucket, keys: set[bytes]) -> None:
        def function(tx: Transaction) -> None:
            for key in keys:
                objects.delete(tx, bucket_id=bucket.number, key=key)

        self._ask(_Request(function))
        for key in keys:
            bucket.sizes.pop(key, None)

    @precondition(lambda self: any(bucket.sizes for bucket in self.buckets.values()))
    @rule(data=st.data(), to=_KEYS)
    def copy(self, data: st.DataObject, to: bytes) -> None:
        """Between the buckets, within one, onto itself."""
        self.commit()
        found = [(name, key) for name, bucket in self.buckets.items() for key in bucket.sizes]
        name, key = data.draw(st.sampled_from(sorted(found)))
        bucket = self.buckets[data.draw(st.sampled_from(sorted(self.buckets)))]
        source: Source = self._runner.run(source_of(self.catalog, self.buckets[name].number, key))
        size = self.buckets[name].sizes[key]
        refusal = QuotaExceeded if bucket.refuses(to, size) else None

        def function(tx: Transaction) -> None:
            objects.copy(
                tx,
                source=source,
                bucket_id=bucket.number,
                key=to,
                etag=ETAG,
                content_type="",
                attributes=NO_ATTRIBUTES,
            )

        self._ask(_Request(function, refusal=refusal))
        if refusal is None:
            bucket.sizes[to] = size

    @precondition(lambda self: self.buckets)
    @rule(data=st.data(), key=_KEYS, size=_SIZES, again=st.booleans(), aborted=_SELDOM)
    def upload(self, data: st.DataObject, key: bytes, size: int, again: bool, aborted: bool) -> None:
        """One part, which counts nothing until the upload is completed; `again`: a second completion in the same
        batch answers as the first and changes nothing."""
        self.commit()
        bucket = self.buckets[data.draw(st.sampled_from(sorted(self.buckets)))]
        row = self._uploaded(bucket.number, key, new_blob(size=size))
        self.books_are_right()
        if aborted:
            self._ask(_Request(lambda tx: uploads.abort(tx, row)))
            self._ask(_Request(lambda tx: uploads.abort(tx, row), refusal=NoSuchUpload))
            return
        plan = self._runner.run(
            self.catalog.read(
                lambda reader: uploads.plan_completion(reader, row, [RequestedPart(1, "e")], part_bytes_min=1)
            )
        )
        refusal = QuotaExceeded if bucket.refuses(key, size) else None
        for _ in range(1 + again):
            self._ask(
                _Request(
                    lambda tx: uploads.complete(tx, plan, etag="etag", attributes=Attributes()),
                    refusal=refusal,
                )
            )
        if refusal is None:
            bucket.sizes[key] = size

    def _uploaded(self, bucket_id: int, key: bytes, blob: NewBlob) -> UploadRow:
        def function(tx: Transaction) -> UploadRow:
            row = uploads.create(
                tx, bucket_id=bucket_id, key=key, owner="o", content_type="", attributes=Attributes()
            )
            uploads.put_part(tx, upload=row, number=1, blob=blob, etag="e")
            return row

        row: UploadRow = self._runner.run(self.catalog.write(function, blob=blob))
        return row

    @precondition(lambda self: self.buckets)
    @rule(data=st.data(), quota_bytes=_QUOTAS)
    def set_quota(self, data: st.DataObject, quota_bytes: int | None) -> None:
        """Also below what lies there."""
        self._limit(self.buckets[data.draw(st.sampled_from(sorted(self.buckets)))], quota_bytes)

    def _limit(self, bucket: _Bucket, quota_bytes: int | None) -> None:
        self._ask(_Request(lambda tx: buckets.set_quota(tx, bucket.number, quota_bytes)))
        bucket.quota_bytes = quota_bytes

    @invariant()
    def books_are_right(self) -> None:
        """As the model has them, and as a count has them; none but of buckets that are there."""
        if not hasattr(self, "catalog") or self.batch:
            return
        reports = self._runner.run(self.catalog.read(usage.listed))
        expected = {name: (one.usage(), one.quota_bytes) for name, one in self.buckets.items()}
        assert {one.name: (one.usage, one.quota_bytes) for one in reports} == expected
        for one in self.buckets.values():
            assert self._runner.run(self.catalog.read(partial(usage.recount, bucket_id=one.number))).agrees
        number, together = self._runner.run(self.catalog.read(usage.totals))
        assert number == len(self.buckets)
        assert together == sum((one.usage() for one in self.buckets.values()), Usage())


def _putting(
    bucket_id: int, key: bytes, blob: NewBlob, condition: Condition | None = None
) -> Callable[[Transaction], Any]:
    return lambda tx: objects.put(
        tx,
        bucket_id=bucket_id,
        key=key,
        blob=blob,
        etag=ETAG,
        content_type="",
        attributes=NO_ATTRIBUTES,
        condition=condition,
    )


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=30, stateful_step_count=40)
