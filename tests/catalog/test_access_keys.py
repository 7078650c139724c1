"""Access keys in the catalog: kept, found from memory and proved fresh over processes (S16, P4)."""

import pytest

from catalog import access_keys, work
from catalog.access_keys import KEYS_MAX, AccessKey
from catalog.engine import Catalog
from catalog.errors import AccessKeyExists, NoSuchAccessKey, TooManyAccessKeys
from catalog.transaction import Transaction
from tests.catalog.making import Clock, Store


async def _create(
    catalog: Catalog, name: str, sealed: bytes = b"sealed", role: str = "readwrite"
) -> AccessKey:
    return await catalog.write(
        lambda tx: access_keys.create(
            tx, access_key=name, sealed_secret=sealed, role=role, description="of a test"
        )
    )


async def test_a_key_is_kept_as_given(catalog: Catalog, clock: Clock) -> None:
    """Created once, enabled, found, listed by name in pages, deleted."""
    made = [await _create(catalog, name) for name in ("b", "a", "c")]
    assert made[0] == AccessKey("b", b"sealed", "readwrite", True, "of a test", clock.now_ms)
    with pytest.raises(AccessKeyExists, match="an access key b already"):
        await _create(catalog, "b")
    assert await access_keys.find(catalog, "b") == made[0]
    assert await access_keys.find(catalog, "d") is None
    assert [key.access_key for key in await catalog.read(access_keys.list_keys)] == ["a", "b", "c"]
    page = await catalog.read(lambda reader: access_keys.list_keys(reader, after="a", limit=1))
    assert page == [made[0]]
    await catalog.write(lambda tx: access_keys.delete(tx, "b"))
    assert await access_keys.find(catalog, "b") is None
    with pytest.raises(NoSuchAccessKey):
        await catalog.read(lambda reader: access_keys.get(reader, "b"))
    with pytest.raises(NoSuchAccessKey):
        await catalog.write(lambda tx: access_keys.delete(tx, "b"))


async def test_a_change_touches_what_is_given_and_nothing_else(catalog: Catalog) -> None:
    """Also when the given value is false or empty. Red when `update` writes its arguments without COALESCE, or takes
    False for not given."""
    before = await _create(catalog, "key")
    other = await _create(catalog, "other")

    async def changed(**change: bool | str) -> AccessKey:
        answer = await catalog.write(lambda tx: access_keys.update(tx, "key", **change))  # type: ignore[arg-type]
        assert await access_keys.find(catalog, "key") == answer
        return answer

    disabled = await changed(enabled=False)
    assert disabled == AccessKey("key", b"sealed", "readwrite", False, "of a test", before.created_ms)
    readonly = await changed(role="readonly")
    assert (readonly.enabled, readonly.role, readonly.description) == (False, "readonly", "of a test")
    silent = await changed(description="")
    assert (silent.enabled, silent.role, silent.description) == (False, "readonly", "")
    assert (await changed(enabled=True)).enabled is True
    assert await access_keys.find(catalog, "other") == other
    with pytest.raises(NoSuchAccessKey):
        await catalog.write(lambda tx: access_keys.update(tx, "missing", enabled=False))


async def test_s16_every_opening_sees_a_change_at_its_next_look(store: Store, clock: Clock) -> None:
    """Two openings, as two fronts have them: what one changes the other sees at once, from the creation to a creation
    anew under the same name. Red when a change does not touch the configuration."""
    one, two = store.open(clock), store.open(clock)
    await one.start()
    await two.start()
    for turn in range(10):
        changing, looking = (one, two) if turn % 2 else (two, one)
        assert await access_keys.find(looking, "key") is None
        made = await _create(changing, "key", b"sealed %d" % turn)
        assert await access_keys.find(looking, "key") == made
        disabled = await changing.write(lambda tx: access_keys.update(tx, "key", enabled=False))
        assert not disabled.enabled
        assert await access_keys.find(looking, "key") == disabled
        assert await access_keys.find(changing, "key") == disabled
        await changing.write(lambda tx: access_keys.delete(tx, "key"))
        assert await access_keys.find(looking, "key") is None
    await one.close()
    await two.close()


async def test_a_key_is_read_once_for_each_configuration(catalog: Catalog) -> None:
    """From memory as long as nothing changed. What does not exist is not remembered: strangers can make up as many
    names as they like (P8). Red when `find` keeps nothing, or keeps None."""
    await _create(catalog, "key")
    first = await access_keys.find(catalog, "key")
    assert await access_keys.find(catalog, "key") is first
    for number in range(100):
        assert await access_keys.find(catalog, f"stranger-{number}") is None
    assert set((await catalog.configuration()).access_keys) == {"key"}


async def test_their_number_is_bounded(catalog: Catalog) -> None:
    """P8. Red when `create` does not count."""

    def fill(tx: Transaction) -> None:
        for number in range(KEYS_MAX - 1):
            tx.execute(access_keys._INSERT, (f"key-{number}", b"", "readonly", 1, "", 0))

    await catalog.write(fill)
    await _create(catalog, "last")
    with pytest.raises(TooManyAccessKeys, match="delete some"):
        await _create(catalog, "one-too-many")
    await catalog.write(lambda tx: access_keys.delete(tx, "key-0"))
    await _create(catalog, "fits-again")


async def test_changes_leave_events(catalog: Catalog) -> None:
    """What happened to which key; a change that changes nothing is no event, and no event holds what is sealed."""
    await _create(catalog, "key", b"sealed")
    for change in ({"enabled": False}, {"enabled": False}, {"enabled": True}, {"role": "admin"}):
        await catalog.write(lambda tx, change=change: access_keys.update(tx, "key", **change))  # type: ignore[misc]
    await catalog.write(lambda tx: access_keys.delete(tx, "key"))
    events = await catalog.read(lambda reader: work.list_events(reader, limit=10))
    told = sorted((event.number, event.kind, event.detail) for event in events)
    assert [(kind, detail) for _, kind, detail in told] == [
        ("key-created", "key, readwrite"),
        ("key-disabled", "key"),
        ("key-enabled", "key"),
        ("key-role-changed", "key: readwrite to admin"),
        ("key-deleted", "key"),
    ]


def test_what_is_sealed_is_not_printed() -> None:
    """Keys get logged, with what a format string makes of them."""
    key = AccessKey("key", b"sealed", "readonly", False, "", 0)
    assert "sealed" not in f"{key} {key!r}"
