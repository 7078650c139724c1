"""Texts with a NUL character, which URLs can carry and PostgreSQL does not store: the same answers on each database."""

import asyncio
from functools import partial

import pytest

from catalog import (
    access_keys,
    buckets,
    documents,
    encryption_keys,
    listing,
    lookup,
    objects,
    upload_listing,
    uploads,
    version_listing,
    versions,
)
from catalog.engine import Catalog
from catalog.errors import (
    NoSuchAccessKey,
    NoSuchEncryptionKey,
    NoSuchUpload,
    NoSuchVersion,
    TextRefused,
)
from tests.catalog.making import NO_ATTRIBUTES, Clock, PostgresStore, put
from tests.postgres import PostgresServer

NULS = ("\0", "null\0", "\0null", "a\0b")


async def test_nothing_is_named_by_it(catalog: Catalog, bucket_id: int) -> None:
    """Wherever a client's text is compared with stored ones. Red when it reaches the server, which refuses the
    statement: a 500 for whoever asks."""
    await put(catalog, bucket_id, b"key")
    for text in NULS:
        assert await lookup.lookup_version(catalog, bucket_id, b"key", text) is None
        with pytest.raises(NoSuchVersion):
            await catalog.write(partial(versions.required, bucket_id=bucket_id, key=b"key", version_id=text))
        gone = await catalog.write(
            partial(objects.delete_version, bucket_id=bucket_id, key=b"key", version_id=text)
        )
        assert not gone.existed
        with pytest.raises(NoSuchUpload):
            await uploads.get(catalog, bucket_id, b"key", text)
        assert await uploads.completion(catalog, bucket_id, b"key", text) is None
        assert await access_keys.find(catalog, text) is None
        with pytest.raises(NoSuchAccessKey):
            await catalog.write(partial(access_keys.update, access_key=text, enabled=False))
        with pytest.raises(NoSuchAccessKey):
            await catalog.write(partial(access_keys.delete, access_key=text))
        assert await encryption_keys.find(catalog, text) is None
        with pytest.raises(NoSuchEncryptionKey):
            await catalog.write(partial(encryption_keys.set_enabled, name=text, enabled=False))
        assert (
            await catalog.read(partial(documents.get, bucket_id=bucket_id, kind="analytics", name=text))
            is None
        )
        assert not await catalog.write(
            partial(documents.delete, bucket_id=bucket_id, kind="analytics", name=text)
        )
        assert await lookup.lookup(catalog, bucket_id, b"key") is not None, "nothing else was hit"


async def test_pages_go_on_after_it(catalog: Catalog, bucket_id: int) -> None:
    """As a marker it stands where it would sort, before all upload ids; as a version's marker it never was one. In keys
    it is like any other byte. Red when another text stands in its place that sorts behind."""
    await put(catalog, bucket_id, b"nul\0in it")
    opened = await catalog.write(
        lambda tx: uploads.create(
            tx, bucket_id=bucket_id, key=b"key", owner="o", content_type="t", attributes=NO_ATTRIBUTES
        )
    )
    page = await catalog.read(
        lambda reader: listing.list_objects(reader, bucket_id=bucket_id, prefix=b"nul\0", limit=10)
    )
    assert [entry.key for entry in page.entries] == [b"nul\0in it"]
    for text in NULS[::2]:
        found = await catalog.read(
            partial(
                upload_listing.list_uploads, bucket_id=bucket_id, key_marker=b"key", upload_id_marker=text
            )
        )
        assert [entry.upload_id for entry in found.entries] == [opened.upload_id]
        with pytest.raises(NoSuchVersion):
            await catalog.read(
                partial(
                    version_listing.list_versions, bucket_id=bucket_id, key_marker=b"key", version_marker=text
                )
            )
        assert not await catalog.read(partial(access_keys.list_keys, after=text))


async def test_it_is_not_stored(postgres_server: PostgresServer) -> None:
    """Nor something else in its place: the request is refused, with a word of its own, and its batch stands. Red
    when the text that stands for it in a comparison is stored."""
    store = PostgresStore(postgres_server)
    catalog = store.open(Clock())
    await catalog.start()
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="bucket", owner="o", region="r"))
    outcomes = await asyncio.gather(
        catalog.write(lambda tx: documents.put(tx, bucket.id, "analytics", b"1", name="good")),
        catalog.write(lambda tx: documents.put(tx, bucket.id, "analytics", b"1", name="a\0b")),
        return_exceptions=True,
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], TextRefused)
    kept = await catalog.read(
        lambda reader: documents.list_documents(reader, bucket.id, "analytics", limit=10)
    )
    assert kept == [("good", b"1")]
    await catalog.close()
    store.drop()
