"""GET /objects and /blobs: inputs, what is not there, and what the catalog says of an object without nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import buckets, objects
from catalog.model import Attributes, Checksum, NewBlob
from s3front.admin import objects as endpoints
from s3front.admin.services import AdminServices
from s3front.app import create_app
from tests.catalog.making import new_blob
from tests.s3front.admin.small_front import Client, small_front

KEY = "dir/grün +%.txt"
PATH = "/objects/photos/dir/gr%C3%BCn%20%2B%25.txt"


@pytest_asyncio.fixture
async def services(tmp_path: Path) -> AsyncIterator[AdminServices]:
    async with small_front(tmp_path) as made, asyncio.timeout(60):
        yield made


@pytest_asyncio.fixture
async def client(services: AdminServices) -> Client:
    return Client(create_app(services))


@pytest_asyncio.fixture
async def blob(services: AdminServices) -> NewBlob:
    """Of the object KEY in the bucket photos; its nodes are not there."""
    made = new_blob(size=4096)
    catalog = services.front.catalog
    bucket = await catalog.write(lambda tx: buckets.create(tx, name="photos", owner="o", region="r"))
    await catalog.write(
        lambda tx: objects.put(
            tx,
            bucket_id=bucket.id,
            key=KEY.encode(),
            blob=made,
            etag="e" * 32,
            content_type="text/plain",
            attributes=Attributes(checksum=Checksum("CRC32", "FULL_OBJECT", "AAAAAA==")),
        )
    )
    return made


async def test_an_object_is_told_with_its_facts_and_layout(client: Client, blob: NewBlob) -> None:
    """Red when the key's percent-encoding was kept."""
    heard = await client.ask("GET", PATH)
    assert heard.status == 200
    told = heard.body
    assert (told["bucket"], told["key"]) == ("photos", KEY)
    version = told["version"]
    assert (version["size_bytes"], version["etag"], version["content_type"]) == (4096, "e" * 32, "text/plain")
    assert version["checksum"] == {"algorithm": "CRC32", "type": "FULL_OBJECT", "value": "AAAAAA=="}
    assert version["modified_at"].endswith("Z")
    copies = told["blob"]["runs"][0]["copies"]
    assert [(copy["number"], copy["state"], copy["unanswered"]) for copy in copies] == [
        (number, "removed", 1) for number in blob.nodes
    ]
    assert told["survives"] == {
        "readable": False,
        "nodes_lost_max": 0,
        "any_region": False,
        "basis": "verified",
    }
    unverified = (await client.ask("GET", f"{PATH}?verify=false")).body
    assert unverified["survives"]["basis"] == "layout"
    assert unverified["blob"]["checked_stripes"] == 0
    assert (await client.ask("GET", f"{PATH}?version_id=null")).body["version"] == version


async def test_a_blob_is_traced_to_its_object(client: Client, blob: NewBlob) -> None:
    """By its id in either case of letters."""
    for name in (blob.id.hex(), blob.id.hex().upper()):
        heard = await client.ask("GET", f"/blobs/{name}")
        assert heard.status == 200
        assert (heard.body["state"], heard.body["references"], heard.body["complete"]) == ("used", 1, True)
        assert heard.body["uses"] == [
            {
                "bucket": "photos",
                "key": KEY,
                "version_id": None,
                "current": True,
                "part": 0,
                "upload_id": None,
            }
        ]
        assert heard.body["lies"]["blob"] == blob.id.hex()


async def test_what_is_not_there_is_said_by_name(client: Client, blob: NewBlob) -> None:
    """Red when an unknown version was answered with 503, as other CatalogErrors are."""
    for path in ("/objects/none/k", "/objects/photos/none", f"{PATH}?version_id=v7", f"/blobs/{'0' * 32}"):
        heard = await client.ask("GET", path)
        assert (heard.status, heard.problem) == (404, "not-found"), path


async def test_wrong_input_is_refused_with_the_fields_name(client: Client, blob: NewBlob) -> None:
    for name in ("xyz", blob.id.hex()[:-1], blob.id.hex() + "00", "g" * 32):
        assert (await client.ask("GET", f"/blobs/{name}")).fields.keys() == {"path.blob"}
    assert (await client.ask("GET", f"{PATH}?verify=maybe")).fields.keys() == {"query.verify"}
    assert (await client.ask("GET", f"{PATH}?versionId=1")).fields.keys() == {"query.versionId"}


async def test_a_search_that_takes_too_long_ends(
    client: Client, blob: NewBlob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was found so far. Red when the time was not looked at."""
    monkeypatch.setattr(endpoints, "_SEARCH_S_MAX", -1.0)
    heard = await client.ask("GET", f"/blobs/{blob.id.hex()}")
    assert (heard.status, heard.body["complete"], heard.body["uses"]) == (200, False, [])
