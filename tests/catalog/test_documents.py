"""Documents of buckets: kept by kind and name, counted, gone with their bucket."""

from functools import partial

import pytest

from catalog import buckets, documents
from catalog.documents import TooManyDocuments
from catalog.engine import Catalog
from catalog.errors import NoSuchBucket
from catalog.transaction import Transaction


async def test_documents(catalog: Catalog, bucket_id: int) -> None:
    """Put, replaced, found by kind and name, listed by name from a marker on, deleted."""

    def make(tx: Transaction) -> None:
        documents.put(tx, bucket_id, "website", b"one")
        documents.put(tx, bucket_id, "website", b"two")
        for name in ("b", "a", "c"):
            documents.put(tx, bucket_id, "metrics", name.encode(), name=name)

    await catalog.write(make)
    assert await catalog.read(lambda r: documents.get(r, bucket_id, "website")) == b"two"
    assert await catalog.read(lambda r: documents.get(r, bucket_id, "metrics")) is None
    assert await catalog.read(lambda r: documents.get(r, bucket_id, "metrics", "b")) == b"b"
    assert await catalog.read(lambda r: documents.get(r, bucket_id + 1, "website")) is None
    page = await catalog.read(lambda r: documents.list_documents(r, bucket_id, "metrics", after="a", limit=1))
    assert page == [("b", b"b")]
    removed = [
        await catalog.write(lambda tx: documents.delete(tx, bucket_id, "metrics", "a")) for _ in range(2)
    ]
    assert removed == [True, False]
    rest = await catalog.read(lambda r: documents.list_documents(r, bucket_id, "metrics", limit=9))
    assert [name for name, _ in rest] == ["b", "c"]


async def test_as_many_as_may_be(catalog: Catalog, bucket_id: int) -> None:
    """One more is refused, a replacement is not. Red when what is there is not counted, or counts when replaced."""

    def make(tx: Transaction, name: str, document: bytes) -> None:
        documents.put(tx, bucket_id, "metrics", document, name=name, most=2)

    for name in ("a", "b"):
        await catalog.write(partial(make, name=name, document=b"old"))
    with pytest.raises(TooManyDocuments):
        await catalog.write(lambda tx: make(tx, "c", b"new"))
    await catalog.write(lambda tx: make(tx, "b", b"new"))
    assert await catalog.read(lambda r: documents.get(r, bucket_id, "metrics", "b")) == b"new"


async def test_a_deleted_bucket_leaves_none(catalog: Catalog, bucket_id: int) -> None:
    """Nor can it get any. Red when the bucket is not looked at, or its documents are not forgotten."""
    other = await catalog.write(lambda tx: buckets.create(tx, name="other", owner="o", region="r"))

    def make(tx: Transaction) -> None:
        for each in (bucket_id, other.id):
            documents.put(tx, each, "website", b"document")

    await catalog.write(make)
    await catalog.write(lambda tx: buckets.delete(tx, bucket_id))
    with pytest.raises(NoSuchBucket):
        await catalog.write(lambda tx: documents.put(tx, bucket_id, "cors", b"document"))
    assert await catalog.read(lambda r: documents.get(r, bucket_id, "website")) is None
    assert await catalog.read(lambda r: documents.get(r, other.id, "website")) == b"document"
