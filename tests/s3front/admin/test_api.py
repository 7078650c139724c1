"""The walk of an admin request: paths, methods, bodies, queries, faults, and what is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import pytest

from catalog.errors import CatalogBusy
from cluster.errors import NotEnoughNodes
from cluster.membership import MembershipRefused
from s3front.admin.api import AdminApi
from s3front.admin.endpoint import Answered, Call, Download, Endpoint, Nothing
from s3front.admin.inputs import BODY_BYTES_MAX
from s3front.admin.problem import not_found
from s3front.admin.services import AdminServices
from s3front.request_id import current_request_id
from tests.s3front.admin.small_front import Client, small_front


class Echo(msgspec.Struct, frozen=True):
    """What arrived."""

    path: dict[str, str]
    query: Any
    body: Any


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query or a body."""

    count: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    names: list[Annotated[str, msgspec.Meta(max_length=3)]] = []


class Needed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body that can't be left out."""

    name: str


async def _echo(_services: AdminServices, call: Call) -> Echo:
    return Echo(dict(call.path), call.query, call.body)


async def _accepted(_services: AdminServices, call: Call) -> Answered:
    return Answered(Echo(dict(call.path), None, None), {"location": "/somewhere"})


async def _fault(_services: AdminServices, call: Call) -> Nothing:
    raise {
        "catalog": CatalogBusy("too many writes wait"),
        "cluster": NotEnoughNodes(1, 3),
        "membership": MembershipRefused("add a node first"),
        "missing": not_found("thing", "x"),
        "own": ZeroDivisionError("secret of the inside"),
    }[call.path["kind"]]


closed: list[str] = []


async def _download(_services: AdminServices, call: Call) -> Download:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d\n" % number
            if call.path["how"] == "broken":
                raise OSError("the file is gone")

    async def close() -> None:
        closed.append(call.path["how"])

    return Download("text/csv", 6, pieces(), close, {"content-disposition": "attachment"})


ENDPOINTS = (
    Endpoint("GET", "/things", "listThings", "List.", _echo, Echo, query=Asked),
    Endpoint("PUT", "/things/{name}", "putThing", "Put.", _echo, Echo, body=Needed),
    Endpoint("POST", "/things/{name}", "postThing", "Post.", _echo, Echo, body=Asked),
    Endpoint("DELETE", "/things/{name}", "dropThing", "Drop.", _echo, Nothing, status=204),
    Endpoint("GET", "/numbered/{id:int}", "getNumbered", "Get.", _echo, Echo),
    Endpoint("GET", "/deep/{bucket}/{key:path}", "getDeep", "Get.", _echo, Echo),
    Endpoint("POST", "/long", "startLong", "Start.", _accepted, Echo, status=202),
    Endpoint("GET", "/fault/{kind}", "getFault", "Fail.", _fault, Nothing),
    Endpoint("GET", "/download/{how}", "getDownload", "Get.", _download, str),
)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Of an API with endpoints of the test's own."""
    async with small_front(tmp_path) as services, asyncio.timeout(60):
        yield Client(AdminApi(services, ENDPOINTS))


class Line(NamedTuple):
    """Of the log, with what a formatter would find beside it."""

    request_id: str
    text: str


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """Warnings of the admin API, as they come."""
    found: list[Line] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(Line(current_request_id.get(), record.getMessage()))

    handler = Noting(logging.WARNING)
    log = logging.getLogger("trivet.admin")
    log.addHandler(handler)
    yield found
    log.removeHandler(handler)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/deep/b/key", {"bucket": "b", "key": "key"}),
        ("/deep/b/a/b//c/", {"bucket": "b", "key": "a/b//c/"}),
        ("/deep/b//a", {"bucket": "b", "key": "/a"}),
        ("/deep/b/%2Fa%20b%C3%A4", {"bucket": "b", "key": "/a bä"}),
        ("/deep/b%2Fc/a", {"bucket": "b/c", "key": "a"}),
        ("/deep/b/../x", {"bucket": "b", "key": "../x"}),
        ("/numbered/17", {"id": "17"}),
    ],
)
async def test_path_parameters_are_what_was_sent(client: Client, path: str, values: dict[str, str]) -> None:
    """Red when the path is decoded before it is cut: %2F then becomes a slash between parameters."""
    answer = await client.ask("GET", path)
    assert answer.status == 200, answer
    assert answer.body["path"] == values


@pytest.mark.parametrize(
    ("method", "path", "status", "problem"),
    [
        ("GET", "/", 404, "no-such-endpoint"),
        ("GET", "/nothing", 404, "no-such-endpoint"),
        ("GET", "/things/", 404, "no-such-endpoint"),
        ("GET", "/things/a/b", 404, "no-such-endpoint"),
        ("GET", "/deep/b/", 404, "no-such-endpoint"),
        ("GET", "/-/admin/v2/things", 404, "no-such-endpoint"),
        ("GET", "/-/admin/v1", 404, "no-such-endpoint"),
        ("GET", "/numbered/x", 400, "invalid-input"),
        ("GET", "/numbered/-1", 400, "invalid-input"),
        ("GET", "/numbered/" + "9" * 19, 400, "invalid-input"),
        ("GET", "/deep/b/%FF", 400, "invalid-input"),
        ("POST", "/things", 405, "method-not-allowed"),
        ("GET", "/things/a", 405, "method-not-allowed"),
    ],
)
async def test_what_is_not_there(client: Client, method: str, path: str, status: int, problem: str) -> None:
    """Each as a problem document."""
    answer = await client.ask(method, path)
    assert (answer.status, answer.problem) == (status, problem)


async def test_405_says_what_is_allowed(client: Client) -> None:
    """All methods of the path, whatever endpoint they belong to."""
    assert (await client.ask("GET", "/things/a")).headers["allow"] == "DELETE, POST, PUT"
    assert (await client.ask("HEAD", "/things")).status == 405


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("count=0", "query.count"),
        ("count=11", "query.count"),
        ("count=x", "query.count"),
        ("count=1.5", "query.count"),
        ("count=", "query.count"),
        ("count=1&count=2", "query.count"),
        ("cuont=1", "query.cuont"),
        ("names=a", "query.names"),
        ("%FF=1", "query"),
        ("count=%FF", "query.count"),
    ],
)
async def test_a_query_that_does_not_fit_names_its_field(client: Client, query: str, field: str) -> None:
    """Red when unknown parameters are ignored: a typo then changes what is answered, and nobody notices."""
    answer = await client.ask("GET", f"/things?{query}")
    assert list(answer.fields) == [field]


async def test_queries_are_converted(client: Client) -> None:
    """Text becomes numbers; what is not given has its default."""
    assert (await client.ask("GET", "/things?count=7")).body["query"] == {"count": 7, "names": []}
    assert (await client.ask("GET", "/things")).body["query"] == {"count": 1, "names": []}


@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [
        (b"", "body", "JSON"),
        (b"{", "body", "JSON"),
        (b"\xff", "body", "JSON"),
        (b"[]", "body", "object"),
        (b"{}", "body.name", "must be given"),
        (b'{"name":1}', "body.name", "must be str"),
        (b'{"name":null}', "body.name", "must be str"),
        (b'{"name":"a","other":1}', "body.other", "not known"),
    ],
)
async def test_a_body_that_does_not_fit_names_its_field(
    client: Client, raw: bytes, field: str, words: str
) -> None:
    """RFC 9457, `errors`."""
    answer = await client.ask("PUT", "/things/a", raw=raw)
    assert answer.status == 400
    assert list(answer.fields) == [field]
    assert words in answer.fields[field]


async def test_fields_deep_inside_are_named(client: Client) -> None:
    """With their place in lists."""
    answer = await client.ask("POST", "/things/a", {"names": ["a", "bbbb"]})
    assert list(answer.fields) == ["body.names[1]"]


async def test_bodies(client: Client) -> None:
    """One whose fields all have defaults may be left out; where none belongs, none is taken; JSON only."""
    assert (await client.ask("POST", "/things/a")).body["body"] == {"count": 1, "names": []}
    assert list((await client.ask("DELETE", "/things/a", {"x": 1})).fields) == ["body"]
    text = await client.ask("POST", "/things/a", raw=b"{}", headers={"content-type": "text/plain"})
    assert (text.status, text.problem) == (415, "unsupported-content-type")
    charset = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await client.ask("POST", "/things/a", raw=b'{"count":2}', headers=charset)).status == 200
    pieces = [b'{"na', b'me":"', b"\xc3", b'\xa4"}']
    cut = await client.ask("PUT", "/things/a", raw=b"".join(pieces), pieces=pieces)
    assert cut.body["body"] == {"name": "ä"}


async def test_bodies_are_bounded(client: Client) -> None:
    """Red when only Content-Length is looked at: a chunked body of any length is then read into memory (P8). And red
    when it is not looked at: what is announced is taken from the budget, which does not have that much.
    """
    large = b'{"name":"' + b"a" * BODY_BYTES_MAX + b'"}'
    answer = await client.ask("PUT", "/things/a", raw=large)
    assert (answer.status, answer.problem) == (413, "body-too-large")
    chunked = {"content-length": None, "transfer-encoding": "chunked"}
    answer = await client.ask("PUT", "/things/a", raw=large, changed=chunked)
    assert (answer.status, answer.problem, answer.headers["connection"]) == (413, "body-too-large", "close")
    for announced in (BODY_BYTES_MAX + 1, 10 << 30, 10**30):
        answer = await client.ask("PUT", "/things/a", raw=b"{}", changed={"content-length": str(announced)})
        assert (answer.status, answer.problem) == (413, "body-too-large")
    fits = b'{"name":"' + b"a" * (BODY_BYTES_MAX - 11) + b'"}'
    assert (await client.ask("PUT", "/things/a", raw=fits)).status == 200
    assert (await client.ask("PUT", "/things/a", raw=fits, changed=chunked)).status == 200


async def test_the_budget_gets_its_bytes_back(tmp_path: Path) -> None:
    """Red when a refused body keeps what it took: the front then stops after a few hundred of them."""
    async with small_front(tmp_path) as services:
        client = Client(AdminApi(services, ENDPOINTS))
        before = services.front.budget.free_bytes
        for raw in (b"{}", b"a" * (BODY_BYTES_MAX + 1), b'{"name":"a"}'):
            await client.ask("PUT", "/things/a", raw=raw)
        assert services.front.budget.free_bytes == before


@pytest.mark.parametrize(
    ("kind", "status", "problem"),
    [
        ("catalog", 503, "unavailable"),
        ("cluster", 503, "unavailable"),
        ("membership", 409, "refused"),
        ("missing", 404, "not-found"),
        ("own", 500, "internal-error"),
    ],
)
async def test_faults(client: Client, kind: str, status: int, problem: str, lines: list[Line]) -> None:
    """An unknown one is told with nothing of its inside; the log has it under the request's id. Red when the id is not
    set for the log.
    """
    answer = await client.ask("GET", f"/fault/{kind}")
    assert (answer.status, answer.problem) == (status, problem)
    assert b"inside" not in answer.raw
    assert bool(lines) == (status >= 500)
    assert all(line.request_id == answer.headers["x-request-id"] for line in lines)


async def test_answers(client: Client) -> None:
    """Each has an id of its own and is for nobody's cache; 204 has no body, 202 says where to look."""
    long = await client.ask("POST", "/long")
    assert (long.status, long.headers["location"]) == (202, "/somewhere")
    gone = await client.ask("DELETE", "/things/a")
    assert (gone.status, gone.raw) == (204, b"")
    assert "content-type" not in gone.headers
    assert gone.headers["x-request-id"] != long.headers["x-request-id"]
    assert long.headers["cache-control"] == "no-store"


async def test_downloads_are_closed_whatever_happens(client: Client, lines: list[Line]) -> None:
    """Red when a fault in the middle leaves the file behind it open."""
    closed.clear()
    whole = await client.ask("GET", "/download/whole")
    assert (whole.raw, whole.headers["content-type"]) == (b"0\n1\n2\n", "text/csv")
    assert (whole.headers["content-length"], whole.headers["content-disposition"]) == ("6", "attachment")
    cut = await client.ask("GET", "/download/broken")
    assert len(cut.raw) < int(cut.headers["content-length"])
    assert [line.request_id for line in lines] == [cut.headers["x-request-id"]]
    assert closed == ["whole", "broken"]
