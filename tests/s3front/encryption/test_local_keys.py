"""The key ring as a key service: rotation, disabling, names, a wrong cluster secret; one contract for any other."""

import logging

import pytest

from catalog import encryption_keys
from catalog.engine import Catalog
from s3front.encryption.key_service import KeyDisabled, KeyService, KeyUnusable, UnknownKey
from s3front.encryption.local_keys import LocalKeys, name_of
from s3front.encryption.ring_sealing import RingSealer
from tests.catalog.making import Clock, SqliteStore

SEALER = RingSealer(b"cluster secret")


@pytest.fixture
def service(catalog: Catalog) -> LocalKeys:
    return LocalKeys(catalog, SEALER)


async def _create(catalog: Catalog, name: str) -> None:
    sealed = SEALER.new_key(name, 1)
    await catalog.write(lambda tx: encryption_keys.create(tx, name, sealed))


async def _rotate(catalog: Catalog, name: str) -> None:
    before = await encryption_keys.find(catalog, name)
    assert before is not None
    sealed = SEALER.new_key(name, before.current.number + 1)
    await catalog.write(lambda tx: encryption_keys.rotate(tx, before, sealed))


async def test_what_it_wraps_it_opens(catalog: Catalog, service: KeyService) -> None:
    await _create(catalog, "key")
    made = await service.new_data_key("key", b"context")
    assert made.version == 1
    assert await service.open_data_key("key", 1, b"context", made.sealed) == made.plain
    again = await service.wrap_data_key("key", b"other", made.plain)
    assert await service.open_data_key("key", 1, b"other", again.sealed) == made.plain
    with pytest.raises(KeyUnusable):
        await service.open_data_key("key", 1, b"other", made.sealed)
    assert repr(made) == "DataKey(…)"


async def test_a_rotation_encrypts_anew_and_opens_the_old(catalog: Catalog, service: KeyService) -> None:
    """Red when `open_data_key` takes the current version whatever it is asked for."""
    await _create(catalog, "key")
    old = await service.new_data_key("key", b"")
    await _rotate(catalog, "key")
    new = await service.new_data_key("key", b"")
    assert (old.version, new.version) == (1, 2)
    assert await service.open_data_key("key", 1, b"", old.sealed) == old.plain
    assert await service.open_data_key("key", 2, b"", new.sealed) == new.plain
    with pytest.raises(KeyUnusable):
        await service.open_data_key("key", 2, b"", old.sealed)
    with pytest.raises(KeyUnusable, match="no version 3"):
        await service.open_data_key("key", 3, b"", new.sealed)


async def test_a_disabled_key_neither_encrypts_nor_decrypts(catalog: Catalog, service: KeyService) -> None:
    """From the next request on, though the key lies open in memory. Red when `enabled` is not looked at."""
    await _create(catalog, "key")
    made = await service.new_data_key("key", b"")
    await catalog.write(lambda tx: encryption_keys.set_enabled(tx, "key", enabled=False))
    with pytest.raises(KeyDisabled):
        await service.new_data_key("key", b"")
    with pytest.raises(KeyDisabled):
        await service.open_data_key("key", 1, b"", made.sealed)
    await catalog.write(lambda tx: encryption_keys.set_enabled(tx, "key", enabled=True))
    assert await service.open_data_key("key", 1, b"", made.sealed) == made.plain


async def test_only_the_default_keys_are_made_at_first_use(catalog: Catalog, service: KeyService) -> None:
    """Red when any unknown name makes a key: a slip of the pen in a request would be a key for ever."""
    for name in ("sse-s3", "alias/aws/s3"):
        made = await service.new_data_key(name, b"")
        assert await service.open_data_key(name, 1, b"", made.sealed) == made.plain
    with pytest.raises(UnknownKey):
        await service.new_data_key("missing", b"")
    listed = await catalog.read(encryption_keys.list_keys)
    assert [key.name for key in listed] == ["aws/s3", "sse-s3"]


async def test_opening_never_makes_a_key(catalog: Catalog, service: KeyService) -> None:
    """A catalog that has lost the ring must not get another key of that name."""
    with pytest.raises(UnknownKey):
        await service.open_data_key("sse-s3", 1, b"", b"")
    assert await catalog.read(encryption_keys.list_keys) == []


async def test_two_fronts_agree_on_the_key_they_make_at_first_use(store: SqliteStore, clock: Clock) -> None:
    """Red when the second front's creation fails its request."""
    one, two = store.open(clock), store.open(clock)
    await one.start()
    await two.start()
    first, second = LocalKeys(one, SEALER), LocalKeys(two, SEALER)
    known = await encryption_keys.find(two, "sse-s3")
    assert known is None
    made = await first.new_data_key("sse-s3", b"")
    assert (await second._made("sse-s3")) == await encryption_keys.find(one, "sse-s3")
    assert await second.open_data_key("sse-s3", 1, b"", made.sealed) == made.plain
    await one.close()
    await two.close()


async def test_a_wrong_cluster_secret_is_told_once_to_the_operator(
    catalog: Catalog, service: KeyService, caplog: pytest.LogCaptureFixture
) -> None:
    """With the name of the file that is missing, and without a key."""
    made = await service.new_data_key("sse-s3", b"")
    other = LocalKeys(catalog, RingSealer(b"another secret"))
    with caplog.at_level(logging.ERROR), pytest.raises(KeyUnusable):
        await other.open_data_key("sse-s3", 1, b"", made.sealed)
    assert "cluster.secret" in caplog.text
    assert "another secret" not in caplog.text


@pytest.mark.parametrize(
    "key_id",
    ["key-1", "alias/key-1", "arn:aws:kms:us-east-1:123456789012:key/key-1", "arn:aws:kms:::alias/key-1"],
)
def test_clients_name_a_key_as_they_do_on_aws(key_id: str) -> None:
    assert name_of(key_id) == "key-1"


def test_names_with_slashes_stay_whole() -> None:
    assert name_of("aws/s3") == name_of("alias/aws/s3") == "aws/s3"
