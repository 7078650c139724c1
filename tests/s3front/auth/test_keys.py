"""The key ring over a real catalog: who is let in, with which role, and for how long."""

from __future__ import annotations

import hmac
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from catalog import access_keys
from catalog.engine import Catalog
from compose import credentials
from s3front.auth import keys, sigv4
from s3front.auth.keys import Caller, Holder, KeyRefused, KeyRing, NewKey, new_key
from s3front.auth.sealing import Sealer
from s3front.errors import InvalidAccessKeyId, SignatureDoesNotMatch
from tests.catalog.making import Clock, SqliteStore
from tests.s3front.signing import ACCESS_KEY, NOW, REGION, SECRET_KEY, signed_by_header

CLUSTER_SECRET = bytes(range(32))
USER, USER_SECRET = "TKUSER", "secret-of-the-user"


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """An empty catalog."""
    return SqliteStore(tmp_path)


@pytest_asyncio.fixture
async def catalog(store: SqliteStore) -> AsyncIterator[Catalog]:
    """One opening."""
    opened = store.open(Clock())
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
def ring(catalog: Catalog) -> KeyRing:
    """With the root key of tests.s3front.signing."""
    return ring_of(catalog)


def ring_of(catalog: Catalog, cluster_secret: bytes = CLUSTER_SECRET) -> KeyRing:
    return KeyRing(catalog, Sealer(cluster_secret), root_access_key=ACCESS_KEY, root_secret_key=SECRET_KEY)


async def add(
    catalog: Catalog,
    access_key: str = USER,
    secret: str = USER_SECRET,
    *,
    role: str = "readwrite",
    cluster_secret: bytes = CLUSTER_SECRET,
) -> None:
    sealed = Sealer(cluster_secret).seal(access_key, secret)
    await catalog.write(
        lambda tx: access_keys.create(tx, access_key=access_key, sealed_secret=sealed, role=role)
    )


async def update(catalog: Catalog, *, enabled: bool | None = None, role: str | None = None) -> None:
    await catalog.write(lambda tx: access_keys.update(tx, USER, enabled=enabled, role=role))


async def ask(ring: KeyRing, access_key: str = USER, secret: str = USER_SECRET) -> Caller | None:
    """Send a signed request to the ring."""
    wire = signed_by_header(access_key=access_key, secret_key=secret)
    return await ring.authenticate(
        method=wire.method,
        raw_path=wire.raw_path,
        raw_query=wire.raw_query,
        headers=[(name.encode(), value.encode("latin-1")) for name, value in wire.headers.items()],
        now=NOW,
        region=REGION,
    )


async def test_root_needs_no_catalog(store: SqliteStore) -> None:
    """With a catalog that serves nothing (closed), and with a row of the root key's own name. Red when the root key is
    looked up like others."""
    opened = store.open(Clock())
    await opened.start()
    await add(opened, ACCESS_KEY, "secret-of-an-impostor", role="readonly")
    ring = ring_of(opened)
    with pytest.raises(SignatureDoesNotMatch):
        await ask(ring, ACCESS_KEY, "secret-of-an-impostor")
    await opened.close()
    caller = await ask(ring, ACCESS_KEY, SECRET_KEY)
    assert caller is not None
    assert (caller.identity.access_key, caller.role) == (ACCESS_KEY, "admin")
    assert await ring.holder(ACCESS_KEY) == Holder(SECRET_KEY, "admin")


async def test_a_key_of_the_catalog(catalog: Catalog, ring: KeyRing) -> None:
    """Good from its creation on, with its role; a wrong secret, an unknown key and no key at all are not."""
    with pytest.raises(InvalidAccessKeyId):
        await ask(ring)
    await add(catalog)
    caller = await ask(ring)
    assert caller is not None
    assert (caller.identity.access_key, caller.role) == (USER, "readwrite")
    with pytest.raises(SignatureDoesNotMatch):
        await ask(ring, secret="another-secret")
    anonymous = await ring.authenticate(
        method="GET", raw_path=b"/b/k", raw_query=b"", headers=[(b"host", b"h")], now=NOW, region=REGION
    )
    assert anonymous is None
    assert await ring.holder(USER) == Holder(USER_SECRET, "readwrite")
    assert await ring.holder("TKOTHER") is None


async def test_what_another_front_changes_is_true_for_the_next_request(
    store: SqliteStore, catalog: Catalog, ring: KeyRing
) -> None:
    """S16. Role, disabling, enabling, deleting; also when this front has let the key in a moment ago. Red when the
    ring keeps what it found, or does not look whether the key is enabled."""
    other = store.open(Clock())
    await other.start()
    await add(other)
    for _ in range(3):
        assert await ask(ring)
        await update(other, role="readonly")
        caller = await ask(ring)
        assert caller is not None
        assert caller.role == "readonly"
        await update(other, enabled=False)
        with pytest.raises(InvalidAccessKeyId):
            await ask(ring)
        await update(other, enabled=True)
    await other.write(lambda tx: access_keys.delete(tx, USER))
    with pytest.raises(InvalidAccessKeyId):
        await ask(ring)
    await other.close()


async def test_a_signing_key_does_not_outlive_its_key(catalog: Catalog, ring: KeyRing) -> None:
    """Created anew under the same name: the old secret is worth nothing, the new one works at once. And nothing that
    was made from a secret stays in memory once the key was found to be gone. Red when `_open` forgets nothing, or takes
    an opened secret for the one of another sealed text."""
    await add(catalog)
    assert await ask(ring)
    assert _signing_keys_of(USER)
    await catalog.write(lambda tx: access_keys.delete(tx, USER))
    await add(catalog, secret="the-next-secret")
    with pytest.raises(SignatureDoesNotMatch):
        await ask(ring)
    assert await ask(ring, secret="the-next-secret")
    await update(catalog, enabled=False)
    with pytest.raises(InvalidAccessKeyId):
        await ask(ring, secret="the-next-secret")
    assert not _signing_keys_of(USER)


def _signing_keys_of(access_key: str) -> list[object]:
    return [key for key in sigv4._signing_keys._entries.values() if key.scope.access_key == access_key]


async def test_another_cluster_secret_refuses_and_says_so_once(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    """A catalog that was restored beside another cluster secret: its keys are refused, the root key goes on, the log
    has one line a key and no secret. Red when a failed unsealing is not remembered."""
    await add(catalog)
    ring = ring_of(catalog, bytes(32))
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            with pytest.raises(InvalidAccessKeyId):
                await ask(ring)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert USER in caplog.text
    assert "cluster.secret" in caplog.text
    assert USER_SECRET not in caplog.text
    assert await ask(ring, ACCESS_KEY, SECRET_KEY)


async def test_a_sealed_secret_is_good_for_its_own_key_only(catalog: Catalog, ring: KeyRing) -> None:
    """Whoever can write to the catalog's file still can't give a known secret to another key."""
    sealed = Sealer(CLUSTER_SECRET).seal(USER, USER_SECRET)
    await catalog.write(
        lambda tx: access_keys.create(tx, access_key="TKADMIN", sealed_secret=sealed, role="admin")
    )
    with pytest.raises(InvalidAccessKeyId):
        await ask(ring, "TKADMIN", USER_SECRET)


async def test_signatures_of_catalog_keys_are_compared_in_constant_time(
    catalog: Catalog, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right and wrong ones. Red when `_is_signature` compares with ==."""
    compared = []
    real = hmac.compare_digest

    def watched(a: bytes, b: bytes) -> bool:
        compared.append(len(a))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    await add(catalog)
    assert await ask(ring)
    assert compared == [64]
    with pytest.raises(SignatureDoesNotMatch):
        await ask(ring, secret="another-secret")
    assert len(compared) > 1


async def test_opened_secrets_are_bounded(
    catalog: Catalog, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8, and what was dropped is opened again."""
    monkeypatch.setattr(keys, "_OPENED_MAX", 3)
    for number in range(8):
        await add(catalog, f"TKUSER{number}", f"secret-number-{number}")
    for _ in range(2):
        for number in range(8):
            assert await ring.holder(f"TKUSER{number}") == Holder(f"secret-number-{number}", "readwrite")
            assert len(ring._opened) <= 3


def test_new_keys() -> None:
    """As given, or made: 20 characters of name and 40 of secret, other ones each time, as the store takes them."""
    made = [new_key(root_access_key="ROOT") for _ in range(50)]
    assert len({key.access_key for key in made} | {key.secret_key for key in made}) == 100
    assert {(len(key.access_key), len(key.secret_key)) for key in made} == {(20, 40)}
    for key in made:
        assert new_key(*key, root_access_key="ROOT") == key
    for name in ("ab", "a/b", "a,b", "a b", "a" * 129, "abc\n", ""):
        with pytest.raises(KeyRefused) as refused:
            new_key(name, root_access_key="ROOT")
        assert refused.value.field == "access_key"
    for secret in ("short", "with blanks in it", "ümlaut-is-not-ascii", "a" * 129, "newline-at-end\n", ""):
        with pytest.raises(KeyRefused) as refused:
            new_key("name", secret, root_access_key="ROOT")
        assert refused.value.field == "secret_key"
        assert not secret or secret not in str(refused.value)
    with pytest.raises(KeyRefused, match="root key"):
        new_key("ROOT", root_access_key="ROOT")
    assert new_key("any-name", root_access_key=None).access_key == "any-name"


def test_the_forms_of_keys_are_those_of_the_root_key() -> None:
    """Two places, because a front does not import compose: they must agree."""
    assert f"^{credentials._ACCESS_KEY.pattern}$" == keys.ACCESS_KEY_PATTERN
    assert f"^{credentials._SECRET_KEY.pattern}$" == keys.SECRET_KEY_PATTERN


def test_nothing_secret_is_printed() -> None:
    """These end in log lines and tracebacks."""
    for thing in (Holder("the-secret", "admin"), NewKey("name", "the-secret")):
        assert "the-secret" not in f"{thing} {thing!r}"
