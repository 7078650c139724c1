"""The key ring in the catalog: versions are added and none goes, found from memory and proved fresh (S16, P4)."""

import pytest

from catalog import encryption_keys, work
from catalog.encryption_keys import NAMES_MAX, EncryptionKey
from catalog.engine import Catalog
from catalog.errors import EncryptionKeyExists, NoSuchEncryptionKey, TooManyEncryptionKeys
from catalog.transaction import Transaction
from tests.catalog.making import Clock, Store


async def _create(catalog: Catalog, name: str, sealed: bytes = b"sealed-1") -> EncryptionKey:
    return await catalog.write(lambda tx: encryption_keys.create(tx, name, sealed))


async def _rotate(catalog: Catalog, before: EncryptionKey, sealed: bytes) -> EncryptionKey:
    return await catalog.write(lambda tx: encryption_keys.rotate(tx, before, sealed))


async def test_a_rotation_adds_a_version_and_keeps_the_old_ones(catalog: Catalog, clock: Clock) -> None:
    """Red when `rotate` replaces the row: what was encrypted before could not be read any more."""
    first = await _create(catalog, "key")
    assert (first.enabled, first.current.number, first.current.sealed_key) == (True, 1, b"sealed-1")
    clock.now_ms += 5
    second = await _rotate(catalog, first, b"sealed-2")
    assert await encryption_keys.find(catalog, "key") == second
    assert [version.sealed_key for version in second.versions] == [b"sealed-1", b"sealed-2"]
    assert (second.current.number, second.current.created_ms) == (2, clock.now_ms)
    assert second.version(1) == first.current
    assert second.version(0) is None
    assert second.version(3) is None


async def test_two_rotations_at_once_are_one(catalog: Catalog) -> None:
    """A version's bytes are sealed for its number, chosen before the transaction: the second one is refused."""
    first = await _create(catalog, "key")
    await _rotate(catalog, first, b"sealed-2")
    with pytest.raises(EncryptionKeyExists):
        await _rotate(catalog, first, b"other")
    found = await catalog.read(lambda reader: encryption_keys.get(reader, "key"))
    assert found.current.sealed_key == b"sealed-2"


async def test_keys_are_listed_by_name_and_limited(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "aws/s3", "c"):
        await _create(catalog, name)
    await _rotate(catalog, await _create(catalog, "a"), b"2")
    listed = await catalog.read(encryption_keys.list_keys)
    assert [(key.name, len(key.versions)) for key in listed] == [("a", 2), ("aws/s3", 1), ("b", 1), ("c", 1)]
    with pytest.raises(EncryptionKeyExists):
        await _create(catalog, "b")
    assert NAMES_MAX == 1000
    monkeypatch.setattr(encryption_keys, "NAMES_MAX", 4)
    with pytest.raises(TooManyEncryptionKeys):
        await _create(catalog, "d")
    monkeypatch.setattr(encryption_keys, "VERSIONS_MAX", 1)
    with pytest.raises(TooManyEncryptionKeys):
        await _rotate(catalog, listed[2], b"2")


async def test_what_is_missing_is_refused(catalog: Catalog) -> None:
    assert await encryption_keys.find(catalog, "missing") is None
    with pytest.raises(NoSuchEncryptionKey):
        await catalog.read(lambda reader: encryption_keys.get(reader, "missing"))
    with pytest.raises(NoSuchEncryptionKey):
        await catalog.write(lambda tx: encryption_keys.set_enabled(tx, "missing", enabled=False))


async def test_s16_every_opening_sees_a_change_at_its_next_look(store: Store, clock: Clock) -> None:
    """Two openings, as two fronts have them. Red when a change does not touch the configuration: a front would go on
    encrypting under a key that was taken out of use."""
    one, two = store.open(clock), store.open(clock)
    await one.start()
    await two.start()
    made = await _create(one, "key")
    rotated = await _rotate(two, made, b"sealed-2")
    for enabled in (False, True):
        for changing in (one, two):
            assert await encryption_keys.find(one, "key") == await encryption_keys.find(two, "key") == rotated
            rotated = await changing.write(
                lambda tx: encryption_keys.set_enabled(tx, "key", enabled=enabled)  # noqa: B023
            )
    for changing, looking in ((one, two), (two, one)):
        rotated = await _rotate(changing, rotated, b"sealed-n")
        assert await encryption_keys.find(looking, "key") == rotated
    await one.close()
    await two.close()


async def test_changes_leave_events_and_no_key(catalog: Catalog) -> None:
    """Nothing of a key is in them, nor in what logs show of it. Red when an event tells the row."""
    made = await _create(catalog, "key", b"secret-bytes")

    def change(tx: Transaction) -> EncryptionKey:
        encryption_keys.rotate(tx, made, b"secret-bytes-2")
        encryption_keys.set_enabled(tx, "key", enabled=False)
        encryption_keys.set_enabled(tx, "key", enabled=False)
        return encryption_keys.set_enabled(tx, "key", enabled=True)

    after = await catalog.write(change)
    events = await catalog.read(lambda reader: work.list_events(reader, limit=100))
    told = [(event.kind, event.detail) for event in events if event.kind.startswith("encryption-key")]
    assert sorted(told) == [
        ("encryption-key-created", "key"),
        ("encryption-key-disabled", "key"),
        ("encryption-key-enabled", "key"),
        ("encryption-key-rotated", "key, version 2"),
    ]
    assert "secret" not in f"{after!r}{after.current!r}{events!r}"
