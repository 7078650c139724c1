"""Object lock: what can't be removed, by no way there is and with no clock (S26)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pysqlite3 import dbapi2

from catalog import buckets, lock_clock, locks, lookup, objects, version_listing
from catalog.bucket_model import LockConfiguration
from catalog.engine import Catalog
from catalog.errors import BucketNotEmpty, ObjectLocked, RowDamaged, VersioningLocked
from catalog.locks import COMPLIANCE, GOVERNANCE
from catalog.model import Attributes, MarkerRow, ObjectRow, Retention, Source, Versioning
from catalog.transaction import Transaction
from tests.catalog.making import SQLITE_ONLY, Clock, SqliteStore, new_blob, put

KEY = b"key"
DAY_MS = 86_400_000
MODES = st.sampled_from(locks.MODES)


class Clocks:
    """A transaction as far as the rules look at one."""

    def __init__(self, now_ms: int, clock_ms: int) -> None:
        self.now_ms = now_ms
        self.meta = self
        self.clock_ms = clock_ms

    @property
    def tx(self) -> Any:
        return self


def refuses(rule: Callable[[], None]) -> bool:
    try:
        rule()
    except ObjectLocked:
        return True
    return False


RETENTIONS = st.builds(Retention, MODES, st.integers(0, 6))


@given(
    old=st.none() | RETENTIONS, new=st.none() | RETENTIONS, clock_ms=st.integers(0, 6), bypass=st.booleans()
)
@settings(max_examples=200)
def test_no_change_frees_anything_before_its_time(
    old: Retention | None, new: Retention | None, clock_ms: int, *, bypass: bool
) -> None:
    """What may be done in two steps may be done in one: whatever a change leaves, it removes nothing that could not be
    removed before. Red when COMPLIANCE became GOVERNANCE without its end being changed, and when a bypass shortened
    COMPLIANCE."""
    clocks = Clocks(0, clock_ms)
    if refuses(lambda: locks.check_change(clocks.tx, old, new, bypass_governance=bypass)):
        return

    def removable_at(retention: Retention | None, later_ms: int, *, bypass: bool) -> bool:
        attributes = Attributes(retention=retention)
        at = Clocks(0, later_ms)
        return not refuses(lambda: locks.check_removable(at.tx, attributes, bypass_governance=bypass))

    for later_ms in range(clock_ms, 8):
        for with_bypass in (False, True):
            if removable_at(new, later_ms, bypass=with_bypass):
                assert removable_at(old, later_ms, bypass=with_bypass) or (
                    bypass and old is not None and old.mode == GOVERNANCE
                )


@given(retention=RETENTIONS, days=st.integers(0, 3), clock_ms=st.integers(0, 6), bypass=st.booleans())
def test_extending_is_always_allowed(retention: Retention, days: int, clock_ms: int, *, bypass: bool) -> None:
    longer = Retention(retention.mode, retention.until_ms + days)
    clocks = Clocks(0, clock_ms)
    locks.check_change(clocks.tx, retention, longer, bypass_governance=bypass)


@pytest.mark.parametrize(("now_ms", "clock_ms"), [(1000, 500), (500, 1000)])
def test_default_retention_is_counted_from_the_later_clock(now_ms: int, clock_ms: int) -> None:
    """Red when it was counted from the wall clock alone: set back by a year, it would have locked nothing."""
    tx = Clocks(now_ms, clock_ms).tx
    found = locks.default_retention(tx, LockConfiguration(COMPLIANCE, days=2))
    assert found == Retention(COMPLIANCE, 1000 + 2 * DAY_MS)
    found = locks.default_retention(tx, LockConfiguration(GOVERNANCE, years=1))
    assert found == Retention(GOVERNANCE, 1000 + 365 * DAY_MS)
    assert locks.default_retention(tx, LockConfiguration()) is None
    assert locks.default_retention(tx, None) is None


@pytest.mark.parametrize(
    ("behind_ms", "ended_ms"),
    [
        (0, 0),
        (7, 7),
        (locks.BETWEEN_STEPS_MS_MAX, locks.BETWEEN_STEPS_MS_MAX),
        (locks.BETWEEN_STEPS_MS_MAX + 1, locks.BETWEEN_STEPS_MS_MAX),
        (400 * DAY_MS, locks.BETWEEN_STEPS_MS_MAX),
        (-7, 0),
        (-400 * DAY_MS, 0),
    ],
)
def test_the_wall_clock_fills_in_seconds_only(behind_ms: int, ended_ms: int) -> None:
    """Red when retention was ended by the wall clock alone, and when it went on until the lock clock's next step."""
    tx = Clocks(1 << 40, (1 << 40) - behind_ms).tx
    until_ms = tx.meta.clock_ms + ended_ms
    for more_ms, locked in ((0, False), (1, True)):
        attributes = Attributes(retention=Retention(COMPLIANCE, until_ms + more_ms))
        assert locked is refuses(lambda: locks.check_removable(tx, attributes, bypass_governance=False))  # noqa: B023


def test_an_unknown_mode_is_a_lock_that_nothing_bypasses() -> None:
    """Red when everything but COMPLIANCE was bypassed."""
    attributes = Attributes(retention=Retention("LATER", 10))
    assert refuses(
        lambda: locks.check_removable(Clocks(0, 5).tx, attributes, bypass_governance=True),
    )


# -- every way there is --------------------------------------------------------------------------------------


@pytest.fixture
async def locked_bucket(catalog: Catalog, clock: Clock) -> int:
    """A bucket with object lock; wall clock and lock clock agree."""
    clock.now_ms = (await catalog.meta()).clock_ms
    made = await catalog.write(
        lambda tx: buckets.create(
            tx,
            name="locked",
            owner="owner",
            region="region",
            versioning=Versioning.ENABLED,
            lock=LockConfiguration(),
        )
    )
    return made.id


async def _locked(catalog: Catalog, bucket_id: int, clock: Clock, mode: str = COMPLIANCE) -> str:
    """A version that is retained for a day."""
    retention = Retention(mode, clock.now_ms + DAY_MS)
    found = await put(catalog, bucket_id, KEY, attributes=Attributes(retention=retention))
    assert found.version_id is not None
    return found.version_id


def _removal(bucket_id: int, version_id: str, *, bypass: bool = False) -> Callable[[Transaction], Any]:
    return lambda tx: objects.delete_version(
        tx, bucket_id=bucket_id, key=KEY, version_id=version_id, bypass_governance=bypass
    )


async def _there(catalog: Catalog, bucket_id: int, version_id: str) -> ObjectRow:
    row = await lookup.lookup_version(catalog, bucket_id, KEY, version_id)
    assert isinstance(row, ObjectRow)
    assert row.attributes.retention is not None
    return row


async def test_nothing_removes_a_compliance_version(
    catalog: Catalog, locked_bucket: int, clock: Clock
) -> None:
    """Removal with and without bypass, overwriting, deleting, renaming, copying onto itself, suspending versioning,
    deleting the bucket, the wall clock. Red when `delete_version` did not ask, when it was the wall clock that it
    asked, and when versioning could be suspended."""
    bucket_id = locked_bucket
    version_id = await _locked(catalog, bucket_id, clock)
    for bypass in (False, True):
        with pytest.raises(ObjectLocked):
            await catalog.write(_removal(bucket_id, version_id, bypass=bypass))
    row = await _there(catalog, bucket_id, version_id)
    source = Source(bucket_id, KEY, row.blob.id, row.sequence)
    what: dict[str, Any] = {
        "source": source,
        "bucket_id": bucket_id,
        "etag": row.etag,
        "content_type": row.content_type,
        "attributes": Attributes(),
    }
    await catalog.write(lambda tx: objects.copy(tx, key=KEY, **what))
    await _there(catalog, bucket_id, version_id)
    await put(catalog, bucket_id, KEY)
    with pytest.raises(VersioningLocked):
        await catalog.write(lambda tx: buckets.set_versioning(tx, bucket_id, Versioning.SUSPENDED))
    deleted = await catalog.write(lambda tx: objects.delete(tx, bucket_id=bucket_id, key=KEY))
    assert deleted.delete_marker
    await _there(catalog, bucket_id, version_id)
    clock.now_ms += 100 * 365 * DAY_MS
    with pytest.raises(ObjectLocked):
        await catalog.write(_removal(bucket_id, version_id, bypass=True))
    with pytest.raises(BucketNotEmpty):
        await catalog.write(lambda tx: buckets.delete(tx, bucket_id))
    clock.now_ms -= 100 * 365 * DAY_MS
    # When its time has come by the lock clock, it goes.
    await catalog.write(lambda tx: lock_clock.advance(tx, clock.now_ms + DAY_MS))
    await catalog.write(_removal(bucket_id, version_id))
    assert await lookup.lookup_version(catalog, bucket_id, KEY, version_id) is None


async def test_a_renamed_version_stays_under_its_old_key(
    catalog: Catalog, locked_bucket: int, clock: Clock
) -> None:
    """Red when a rename removed its source instead of putting a delete marker above it."""
    version_id = await _locked(catalog, locked_bucket, clock)
    row = await _there(catalog, locked_bucket, version_id)
    await catalog.write(
        lambda tx: objects.rename(
            tx,
            source=Source(locked_bucket, KEY, row.blob.id, row.sequence),
            bucket_id=locked_bucket,
            key=b"other",
            etag=row.etag,
            content_type=row.content_type,
            attributes=row.attributes,
        )
    )
    await _there(catalog, locked_bucket, version_id)
    assert isinstance(await lookup.latest_marker(catalog, locked_bucket, KEY), MarkerRow)


async def test_the_lock_of_a_bucket_stays(catalog: Catalog, locked_bucket: int, bucket_id: int) -> None:
    with pytest.raises(VersioningLocked):
        await catalog.write(lambda tx: buckets.set_lock(tx, bucket_id, LockConfiguration()))
    await catalog.write(lambda tx: buckets.set_lock(tx, locked_bucket, LockConfiguration(GOVERNANCE, days=1)))
    result = await put(catalog, locked_bucket, KEY)
    version_id = result.version_id
    assert version_id is not None
    with pytest.raises(ObjectLocked):
        await catalog.write(_removal(locked_bucket, version_id))
    # The default is for those to come: to change it frees nothing.
    await catalog.write(lambda tx: buckets.set_lock(tx, locked_bucket, LockConfiguration()))
    with pytest.raises(ObjectLocked):
        await catalog.write(_removal(locked_bucket, version_id))
    await catalog.write(_removal(locked_bucket, version_id, bypass=True))


@SQLITE_ONLY
async def test_a_null_version_is_kept_where_versioning_was_suspended_by_force(
    catalog: Catalog, store: SqliteStore, locked_bucket: int, clock: Clock
) -> None:
    """A row that says so, as no request can write it: overwriting and deleting would replace the null version.
    Red when replacing a null version asked nobody."""
    version_id = await _locked(catalog, locked_bucket, clock)
    _corrupt(store, "UPDATE buckets SET versioning = 2 WHERE id = ?", locked_bucket)
    _corrupt(store, "UPDATE objects SET version_id = NULL WHERE version_id = ?", version_id)
    with pytest.raises(ObjectLocked):
        await put(catalog, locked_bucket, KEY)
    with pytest.raises(ObjectLocked):
        await catalog.write(lambda tx: objects.delete(tx, bucket_id=locked_bucket, key=KEY))
    await _there(catalog, locked_bucket, "null")


# -- what can't be read is locked ----------------------------------------------------------------------------


def _corrupt(store: SqliteStore, statement: str, *parameters: object) -> None:
    connection = dbapi2.connect(store.path, isolation_level=None)
    try:
        connection.execute(statement, parameters)
    finally:
        connection.close()


DAMAGE = [b"", b"\xc1", b"\x85", b"\x81\xa9retention\xa4ever", b"\x81\xa9retention\x92\xaaCOMPLIANCE\xa1x"]


@pytest.mark.parametrize("damage", DAMAGE)
@SQLITE_ONLY
async def test_attributes_that_cannot_be_read_are_locked(
    catalog: Catalog, store: SqliteStore, locked_bucket: int, clock: Clock, damage: bytes
) -> None:
    """Red when what could not be read was taken for attributes without retention, and when nobody looked at them."""
    version_id = await _locked(catalog, locked_bucket, clock)
    _corrupt(store, "UPDATE objects SET attributes = ? WHERE version_id = ?", damage, version_id)
    with pytest.raises(RowDamaged):
        await catalog.write(_removal(locked_bucket, version_id, bypass=True))
    with pytest.raises(RowDamaged):
        await catalog.write(
            lambda tx: objects.change_attributes(
                tx, bucket_id=locked_bucket, key=KEY, version_id=version_id, change=lambda _: Attributes()
            )
        )
    page = await catalog.read(lambda reader: version_listing.list_versions(reader, bucket_id=locked_bucket))
    assert [entry.version_id for entry in page.entries] == [version_id]


@SQLITE_ONLY
async def test_a_lock_that_cannot_be_read_takes_no_versions(
    catalog: Catalog, store: SqliteStore, locked_bucket: int
) -> None:
    """They would lack the default retention. Red when an unreadable lock was taken for none."""
    _corrupt(store, "UPDATE buckets SET lock_default = ? WHERE id = ?", b"\xc1", locked_bucket)
    with pytest.raises(RowDamaged):
        await put(catalog, locked_bucket, KEY, new_blob())
    with pytest.raises(RowDamaged):
        await catalog.write(lambda tx: buckets.set_versioning(tx, locked_bucket, Versioning.SUSPENDED))
