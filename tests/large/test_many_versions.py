"""10,000 versions of one key: what a client asks of a bucket costs what it is shown, not what lies below (P9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from catalog import listing, lookup, objects, version_listing
from catalog.model import Attributes, ObjectRow, PutResult, VersionEntry
from catalog.transaction import Transaction
from tests.catalog.making import new_blob
from tests.large.conftest import Front

BUCKET = "versions"
MANY = 10_000
AT_ONCE = 2500
DEEP, SHALLOW = b"b/many", b"b/one"


def _put(tx: Transaction, bucket_id: int, key: bytes) -> PutResult:
    return objects.put(
        tx,
        bucket_id=bucket_id,
        key=key,
        blob=new_blob(),
        etag="e",
        content_type="a/b",
        attributes=Attributes(),
    )


@pytest.fixture(scope="module")
def made(front: Front) -> tuple[int, list[str]]:
    """The bucket, and the ids of the one key's versions, newest first. Beside it lie keys of one version."""
    bucket_id = front.bucket(BUCKET)
    front.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    ids: list[str] = []

    def versions(tx: Transaction) -> list[str | None]:
        return [_put(tx, bucket_id, DEEP).version_id for _ in range(AT_ONCE)]

    for _ in range(MANY // AT_ONCE):
        ids += [one or "" for one in front.run(front.catalog.write(versions))]
    for key in (b"a", SHALLOW, b"c"):
        front.run(front.catalog.write(partial(_put, bucket_id=bucket_id, key=key)))
    return bucket_id, ids[::-1]


def test_a_listing_of_keys_costs_the_same(front: Front, made: tuple[int, list[str]]) -> None:
    """Red when older versions are read, however quickly, on the way to the next key."""
    bucket_id, _ = made
    pages = {}
    for prefix in (DEEP, SHALLOW):
        page, steps = front.read(partial(listing.list_objects, bucket_id=bucket_id, prefix=prefix))
        assert [entry.key for entry in page.entries] == [prefix]
        pages[prefix] = steps
    assert pages[DEEP] == pages[SHALLOW]
    page, steps = front.read(partial(listing.list_objects, bucket_id=bucket_id))
    assert [entry.key for entry in page.entries] == [b"a", DEEP, SHALLOW, b"c"]
    assert steps < 1000
    listed = front.s3.list_objects_v2(Bucket=BUCKET, Delimiter="/")
    assert [one["Key"] for one in listed["Contents"]] == ["a", "c"]


def test_a_page_of_versions_costs_what_it_shows(front: Front, made: tuple[int, list[str]]) -> None:
    """At the beginning, in the middle and at the end of the key's versions, and past all of them by a delimiter. Red
    when a page is sorted after they were all read."""
    bucket_id, ids = made
    costs = []
    for marker in (ids[0], ids[MANY // 2], ids[-20]):
        one_page = partial(
            version_listing.list_versions,
            bucket_id=bucket_id,
            key_marker=DEEP,
            version_marker=marker,
            limit=10,
        )
        page, steps = front.read(one_page)
        at = ids.index(marker)
        assert [entry.version_id for entry in page.entries] == ids[at + 1 : at + 11]
        costs.append(steps)
    assert len(set(costs)) == 1
    page, steps = front.read(
        partial(version_listing.list_versions, bucket_id=bucket_id, delimiter=b"/", limit=10)
    )
    assert ([entry.key for entry in page.entries], page.prefixes) == ([b"a", b"c"], [b"b/"])
    assert steps < 3000


def test_all_of_them_are_listed_once(front: Front, made: tuple[int, list[str]]) -> None:
    bucket_id, ids = made
    listed: list[VersionEntry] = []
    key, version, truncated = b"", "", True
    while truncated:
        one_page = partial(version_listing.list_versions, prefix=DEEP, key_marker=key, version_marker=version)
        page, _ = front.read(partial(one_page, bucket_id=bucket_id))
        listed += page.entries
        key, version, truncated = page.next_key, page.next_version, page.truncated
    assert [one.version_id for one in listed] == ids
    assert [one.is_latest for one in listed] == [True] + [False] * (MANY - 1)
    told = front.s3.list_object_versions(Bucket=BUCKET, Prefix="b/", MaxKeys=1000)
    assert [one["VersionId"] for one in told["Versions"]] == ids[:1000]


def test_one_is_read_written_and_deleted_in_as_many_statements(
    front: Front, made: tuple[int, list[str]]
) -> None:
    """As for a key of one version. Red when the newest left is looked for among all."""
    bucket_id, ids = made

    def cost(function: Callable[[], object]) -> int:
        return len(front.traced(function)[1])

    found = front.run(lookup.lookup_version(front.catalog, bucket_id, DEEP, ids[MANY // 2]))
    assert isinstance(found, ObjectRow)
    costs = []
    for key in (DEEP, SHALLOW):
        name = {"Bucket": BUCKET, "Key": key.decode()}
        written = front.run(front.catalog.write(partial(_put, bucket_id=bucket_id, key=key))).version_id
        delete = partial(front.s3.delete_object, **name, VersionId=written)
        marker = partial(front.s3.delete_object, **name)
        costs.append((cost(delete), cost(marker)))
        listed = front.s3.list_object_versions(**{"Bucket": BUCKET, "Prefix": key.decode(), "MaxKeys": 1})
        front.s3.delete_object(**name, VersionId=listed["DeleteMarkers"][0]["VersionId"])
        assert front.s3.head_object(**name)["ContentLength"] == 4096
    assert costs[0] == costs[1]
