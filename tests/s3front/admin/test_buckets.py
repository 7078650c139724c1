"""``/buckets`` of the admin API: a real catalog and the real application, no nodes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import buckets
from catalog.engine import Catalog
from catalog.errors import QuotaExceeded
from s3front.admin.services import AdminServices
from s3front.app import create_app
from tests.catalog.making import new_blob, put
from tests.s3front.admin.small_front import Client, small_front


@pytest_asyncio.fixture
async def services(tmp_path: Path) -> AsyncIterator[AdminServices]:
    async with small_front(tmp_path) as services:
        yield services


@pytest.fixture
def catalog(services: AdminServices) -> Catalog:
    return services.front.catalog


@pytest.fixture
def client(services: AdminServices) -> Client:
    return Client(create_app(services))


async def _bucket(catalog: Catalog, name: str, *sizes: int) -> int:
    """A bucket with an object of each size."""
    made = await catalog.write(lambda tx: buckets.create(tx, name=name, owner="o", region="r"))
    for number, size in enumerate(sizes):
        await put(catalog, made.id, b"%d" % number, new_blob(size=size))
    return made.id


async def test_buckets_are_listed_in_pages(client: Client, catalog: Catalog) -> None:
    """Exactly once each. Red when `next_after` was the first name of the next page: it was left out."""
    for name in ("ant", "bee", "cow", "dog", "eel"):
        await _bucket(catalog, name, *range(len(name)))
    found: list[str] = []
    after = ""
    for _ in range(3):
        heard = await client.ask("GET", f"/buckets?limit=2&after={after}")
        assert heard.status == 200
        found += [one["name"] for one in heard.body["buckets"]]
        after = heard.body["next_after"] or ""
    assert (found, heard.body["next_after"]) == (["ant", "bee", "cow", "dog", "eel"], None)
    first = (await client.ask("GET", "/buckets")).body["buckets"][0]
    assert first.pop("created_at").endswith("Z")
    assert first == {
        "name": "ant",
        "versioning": "never",
        "objects": 3,
        "versions": 3,
        "bytes": 3,
        "quota_bytes": None,
    }


async def test_a_quota_is_set_obeyed_and_taken_away(client: Client, catalog: Catalog) -> None:
    """And the answer is what a look at the bucket gives. Red when only the answer, not the row was changed."""
    number = await _bucket(catalog, "bee", 60)
    heard = await client.ask("PUT", "/buckets/bee/quota", {"quota_bytes": 100})
    assert heard.status == 200
    assert (heard.body["quota_bytes"], heard.body["bytes"], heard.body["open_uploads"]) == (100, 60, 0)
    assert (await client.ask("GET", "/buckets/bee")).body == heard.body
    with pytest.raises(QuotaExceeded):
        await put(catalog, number, b"more", new_blob(size=41))
    assert (await client.ask("PUT", "/buckets/bee/quota", {"quota_bytes": None})).status == 200
    await put(catalog, number, b"more", new_blob(size=41))
    assert (await client.ask("GET", "/buckets/bee")).body["bytes"] == 101


async def test_what_is_no_quota_is_refused_by_name(client: Client, catalog: Catalog) -> None:
    """A missing field is not a null, lest a misspelt name take a limit away. Red with a default."""
    await _bucket(catalog, "bee")
    await client.ask("PUT", "/buckets/bee/quota", {"quota_bytes": 5})
    for body, field in (
        ({}, "body.quota_bytes"),
        ({"quota": 10}, "body.quota"),
        ({"quota_bytes": -1}, "body.quota_bytes"),
        ({"quota_bytes": "10GiB"}, "body.quota_bytes"),
        ({"quota_bytes": 1.5}, "body.quota_bytes"),
        ({"quota_bytes": 1 << 61}, "body.quota_bytes"),
        ({"quota_bytes": True}, "body.quota_bytes"),
    ):
        heard = await client.ask("PUT", "/buckets/bee/quota", body)
        assert heard.status == 400, body
        assert field in heard.fields
    assert (await client.ask("GET", "/buckets/bee")).body["quota_bytes"] == 5


async def test_a_bucket_that_is_not_there(client: Client) -> None:
    for method, path, body in (
        ("GET", "/buckets/nowhere", None),
        ("PUT", "/buckets/nowhere/quota", {"quota_bytes": 1}),
    ):
        heard = await client.ask(method, path, body)
        assert (heard.status, heard.problem) == (404, "not-found")
    assert (await client.ask("GET", "/buckets?limit=0")).fields.keys() == {"query.limit"}
