"""Access keys over the admin API: a real front without nodes, signed requests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from catalog.access_keys import AccessKey
from s3front.admin.keys import CreatedKey, KeyCreation
from tests.s3front.admin.small_front import ROOT_KEY, Client, small_client


@pytest_asyncio.fixture
async def root(tmp_path: Path) -> AsyncIterator[Client]:
    """A client with the root key."""
    async with small_client(tmp_path) as client:
        yield client


async def created(client: Client, **body: str) -> tuple[str, str]:
    """Access key and secret of a new key."""
    heard = await client.ask("POST", "/keys", body)
    assert heard.status == 201, heard
    return heard.body["access_key"], heard.body["secret_key"]


async def test_the_life_of_a_key(root: Client) -> None:
    """The secret is in the answer that creates the key and in no other. Red when a key's answer holds what is
    sealed."""
    heard = await root.ask("POST", "/keys", {"role": "admin", "description": "of a test"})
    made = heard.body
    name, secret = made["access_key"], made.pop("secret_key")
    assert (heard.status, heard.headers["location"]) == (201, f"/-/admin/v1/keys/{name}")
    assert heard.headers["cache-control"] == "no-store"
    assert (len(name), len(secret)) == (20, 40)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["created_at"])
    assert made == {
        "access_key": name,
        "role": "admin",
        "enabled": True,
        "description": "of a test",
        "created_at": made["created_at"],
    }
    user = root.by((name, secret))
    for asking in (root, user):
        assert (await asking.ask("GET", f"/keys/{name}")).body == made
        assert (await asking.ask("GET", "/keys")).body == {"keys": [made], "next_after": None}
    changed = await root.ask("PATCH", f"/keys/{name}", {"enabled": False, "description": ""})
    assert changed.body == made | {"enabled": False, "description": ""}
    assert (await user.ask("GET", "/keys")).problem == "invalid-access-key-id"
    assert (await root.ask("PATCH", f"/keys/{name}", {"enabled": True})).body["enabled"] is True
    assert (await user.ask("GET", "/keys")).status == 200
    assert (await root.ask("PATCH", f"/keys/{name}", {"role": "readonly"})).body["role"] == "readonly"
    assert (await user.ask("GET", "/keys")).status == 403
    gone = await root.ask("DELETE", f"/keys/{name}")
    assert (gone.status, gone.raw) == (204, b"")
    assert (await user.ask("GET", "/keys")).status == 401
    assert (await root.ask("GET", f"/keys/{name}")).status == 404


@pytest.mark.parametrize("role", ["readwrite", "readonly"])
async def test_only_admins_get_in(root: Client, role: str) -> None:
    """A key that could make keys could make one that may do everything. Red when the admin API asks for a proved
    caller only."""
    user = root.by(await created(root, role=role))
    for method, path in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", f"/keys/{ROOT_KEY[0]}")):
        heard = await user.ask(method, path, {} if method == "POST" else None)
        assert (heard.status, heard.problem) == (403, "not-an-admin")


async def test_nobody_locks_themselves_out(root: Client) -> None:
    """Disabling, deleting and another role need another key; the rest does not. Red when only one of them is
    refused."""
    one = root.by(await created(root, role="admin"))
    assert one.key
    path = f"/keys/{one.key[0]}"
    for heard in (
        await one.ask("DELETE", path),
        await one.ask("PATCH", path, {"enabled": False}),
        await one.ask("PATCH", path, {"role": "readonly"}),
        await one.ask("PATCH", path, {"role": "readwrite", "description": "x"}),
    ):
        assert (heard.status, heard.problem) == (409, "own-key")
    assert (await one.ask("PATCH", path, {"description": "mine", "enabled": True})).body[
        "description"
    ] == "mine"
    other = root.by(await created(root, role="admin"))
    assert (await other.ask("PATCH", path, {"role": "readonly"})).status == 200
    assert (await other.ask("DELETE", path)).status == 204


async def test_the_root_key_is_not_changed_here(root: Client) -> None:
    """Also not by an admin key, and its name is not for others."""
    admin = root.by(await created(root, role="admin"))
    for client in (root, admin):
        for method, body in (
            ("DELETE", None),
            ("PATCH", {"enabled": False}),
            ("PATCH", {"role": "readonly"}),
        ):
            heard = await client.ask(method, f"/keys/{ROOT_KEY[0]}", body)
            assert (heard.status, heard.problem) == (409, "root-key")
        heard = await client.ask("POST", "/keys", {"access_key": ROOT_KEY[0]})
        assert heard.fields == {"body.access_key": "is that of the root key"}


async def test_a_given_name_and_secret(root: Client) -> None:
    """Taken as they are, once."""
    given = {"access_key": "a.given-name_1", "secret_key": "s/e+c=r e t".replace(" ", "!")}
    assert await created(root, **given, role="admin") == tuple(given.values())
    assert (await root.by(tuple(given.values())).ask("GET", "/keys")).status == 200  # type: ignore[arg-type]
    heard = await root.ask("POST", "/keys", given)
    assert (heard.status, heard.problem) == (409, "key-exists")
    assert given["secret_key"].encode() not in heard.raw


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "owner"}, "body.role"),
        ({"role": None}, "body.role"),
        ({"description": "x" * 257}, "body.description"),
        ({"access_key": "a/b"}, "body.access_key"),
        ({"access_key": "ab"}, "body.access_key"),
        ({"access_key": "abc\n"}, "body.access_key"),
        ({"secret_key": "Sh0rt!"}, "body.secret_key"),
        ({"secret_key": "Wr0ng with blanks"}, "body.secret_key"),
        ({"secret_key": "Wr0ng-newline\n"}, "body.secret_key"),
        ({"enabled": True}, "body.enabled"),
    ],
)
async def test_wrong_input_is_named(root: Client, body: dict[str, Any], field: str) -> None:
    """With the field, and without the secret that was sent."""
    heard = await root.ask("POST", "/keys", body)
    assert (heard.status, list(heard.fields)) == (400, [field])
    assert body.get("secret_key", "~").strip().encode() not in heard.raw
    assert (await root.ask("GET", "/keys")).body["keys"] == []


async def test_wrong_changes_are_named(root: Client) -> None:
    """A change of what can't be changed changes nothing."""
    name, _ = await created(root)
    for body, field in (
        ({"enabled": None}, "body.enabled"),
        ({"enabled": 0}, "body.enabled"),
        ({"role": "root"}, "body.role"),
        ({"secret_key": "another-secret", "enabled": False}, "body.secret_key"),
    ):
        assert list((await root.ask("PATCH", f"/keys/{name}", body)).fields) == [field]
    assert (await root.ask("GET", f"/keys/{name}")).body["enabled"] is True
    for method in ("GET", "PATCH", "DELETE"):
        heard = await root.ask(method, "/keys/TKMISSING", {} if method == "PATCH" else None)
        assert (heard.status, heard.problem) == (404, "not-found")


async def test_pages(root: Client) -> None:
    """Every key once, in order, whatever the size of the page; the last page says that it is the last."""
    names = sorted([(await created(root))[0] for _ in range(5)])
    for limit in (1, 2, 5, 6):
        seen: list[str] = []
        after = ""
        while True:
            page = (await root.ask("GET", f"/keys?limit={limit}&after={after}")).body
            seen += [key["access_key"] for key in page["keys"]]
            assert len(page["keys"]) <= limit
            if page["next_after"] is None:
                break
            after = page["next_after"]
        assert seen == names
    for query, field in (("limit=0", "query.limit"), ("limit=1001", "query.limit"), ("from=1", "query.from")):
        assert list((await root.ask("GET", f"/keys?{query}")).fields) == [field]


def test_no_secret_is_printed() -> None:
    """These end in log lines and tracebacks."""
    for thing in (
        CreatedKey("name", "admin", True, "", "", "the-secret"),
        KeyCreation(access_key="name", secret_key="the-secret"),
        AccessKey("name", b"the-secret", "admin", True, "", 0),
    ):
        assert "the-secret" not in f"{thing} {thing!r}"
