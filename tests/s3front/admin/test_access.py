"""Who may use the admin API, and what a signature must cover."""

from __future__ import annotations

import logging

import pytest

from tests.s3front.admin.small_front import ROOT_KEY, Client

KEYS = "/keys"
NEW = {"role": "readonly"}


async def test_who_is_not_proved_gets_401_for_every_path(client: Client) -> None:
    """Red when the path is looked up before the signature: a stranger then sees 404 and learns what there is."""
    nobody = client.by(None)
    for path in ("/settings", "/no/such/path", "/keys/x"):
        answer = await nobody.ask("GET", path)
        assert (answer.status, answer.problem) == (401, "signature-missing")
        assert answer.headers["www-authenticate"].startswith("AWS4-HMAC-SHA256")
    wrong = await client.by((ROOT_KEY[0], "another-secret")).ask("GET", "/settings")
    assert (wrong.status, wrong.problem) == (401, "signature-does-not-match")
    assert ROOT_KEY[1] not in wrong.raw.decode()
    unknown = await client.by(("NOBODY0000", "another-secret")).ask("GET", "/settings")
    assert (unknown.status, unknown.problem) == (401, "invalid-access-key-id")


async def test_only_the_role_admin_may(client: Client) -> None:
    """Red when the role is not looked at: a readonly key then makes itself an admin."""
    for role, expected in (("admin", 200), ("readwrite", 403), ("readonly", 403)):
        made = (await client.ask("POST", KEYS, {"role": role})).body
        answer = await client.by((made["access_key"], made["secret_key"])).ask("GET", "/settings")
        assert answer.status == expected
        if expected == 403:
            assert answer.problem == "not-an-admin"
            refused = client.by((made["access_key"], made["secret_key"]))
            assert (await refused.ask("POST", KEYS, {"role": "admin"})).status == 403


async def test_a_disabled_admin_is_nobody(client: Client) -> None:
    """From the very next request on."""
    made = (await client.ask("POST", KEYS, {"role": "admin"})).body
    other = client.by((made["access_key"], made["secret_key"]))
    assert (await other.ask("GET", "/settings")).status == 200
    assert (await client.ask("PATCH", f"/keys/{made['access_key']}", {"enabled": False})).status == 200
    assert (await other.ask("GET", "/settings")).status == 401


async def test_presigned_urls_read_only(client: Client) -> None:
    """Red when presigned changes pass: whoever sees the URL in a log could make keys with it."""
    assert (await client.ask("GET", "/settings", presigned=True)).status == 200
    answer = await client.ask("POST", KEYS, NEW, presigned=True)
    assert (answer.status, answer.problem) == (401, "presigned")


async def test_a_change_is_signed_with_its_body(client: Client) -> None:
    """Red when the body's digest is not compared, or UNSIGNED-PAYLOAD is taken for a change: somebody on the way
    could then have another key made than was asked for.
    """
    body = b'{"role":"readonly"}'
    forged = await client.ask("POST", KEYS, raw=body, pieces=[b'{"role":"admin"}   '])
    assert (forged.status, forged.problem) == (400, "payload-not-signed")
    cut = await client.ask("POST", KEYS, raw=body, pieces=[b""])
    assert (cut.status, cut.problem) == (400, "payload-not-signed")
    unsigned = await client.ask("POST", KEYS, raw=body, changed={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    assert unsigned.status == 401, "it was not signed so"
    assert (await client.ask("GET", "/keys")).body["keys"] == []


async def test_every_change_is_in_the_log_with_who_made_it(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """And without any secret. Red when body or answer are logged too."""
    with caplog.at_level(logging.INFO, logger="trivet.admin"):
        made = (await client.ask("POST", KEYS, {"role": "admin"})).body
        given = {"role": "admin", "access_key": "GIVEN", "secret_key": "given-by-the-client"}
        assert (await client.ask("POST", KEYS, given)).status == 201
    lines = [record.getMessage() for record in caplog.records if "createKey" in record.getMessage()]
    assert len(lines) == 2
    assert ROOT_KEY[0] in lines[0]
    assert made["secret_key"] not in caplog.text
    assert given["secret_key"] not in caplog.text
