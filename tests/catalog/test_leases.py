"""The steward's lease: S22, the term of S18, epochs and horizon of S19."""

import asyncio

import pytest

from catalog import leases
from catalog.engine import Catalog
from catalog.errors import LeaseLost
from catalog.leases import LeaseWatch
from catalog.model import Lease, Meta
from catalog.transaction import read_meta
from tests.catalog.making import Clock, Store


class _Monotonic:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def _read(catalog: Catalog) -> Lease:
    return await catalog.read(leases.read)


async def _acquire(catalog: Catalog, holder: str, seen: Lease) -> tuple[Lease, Meta]:
    return await catalog.write(lambda tx: leases.acquire(tx, holder, seen=seen))


async def _renew(catalog: Catalog, lease: Lease) -> Lease:
    return await catalog.write(lambda tx: leases.renew(tx, lease))


async def test_s22_a_lease_expires_by_standing_still(catalog: Catalog, clock: Clock) -> None:
    """Over the observer's own monotonic time; both wall clocks jump by years meanwhile. Break caught: a watch
    that does not begin anew when the counter has moved."""
    monotonic = _Monotonic()
    watch = LeaseWatch(monotonic, expiry_s=10)
    lease, _ = await _acquire(catalog, "first", await _read(catalog))
    for _ in range(5):
        assert not watch.expired(await _read(catalog))
        monotonic.now_s += 9
        clock.now_ms += 10**11
        assert not watch.expired(await _read(catalog))
        lease = await _renew(catalog, lease)
        clock.now_ms -= 3 * 10**11
    assert not watch.expired(await _read(catalog))
    monotonic.now_s += 10
    assert watch.expired(await _read(catalog))
    assert not LeaseWatch(monotonic, expiry_s=10).expired(await _read(catalog)), "a new observer waits, too"


async def test_s22_a_renewed_lease_is_not_taken(catalog: Catalog) -> None:
    """The holder thaws and renews just before the take-over commits. Break caught: `acquire` that does not
    compare the lease with the one that was seen to stand still."""
    lease, _ = await _acquire(catalog, "first", await _read(catalog))
    seen = await _read(catalog)
    lease = await _renew(catalog, lease)
    with pytest.raises(LeaseLost):
        await _acquire(catalog, "second", seen)
    assert (await _read(catalog)).holder == "first"
    await _renew(catalog, lease)


async def test_s22_of_two_who_see_it_expired_one_gets_it(
    store: Store, catalog: Catalog, clock: Clock
) -> None:
    """Over two processes."""
    other = store.open(clock)
    await other.start()
    seen = await _read(catalog)
    outcomes = await asyncio.gather(
        _acquire(catalog, "first", seen), _acquire(other, "second", seen), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LeaseLost", "tuple"]
    await other.close()


async def test_s18_the_term_rises_at_each_take_over(catalog: Catalog) -> None:
    """And the old holder can do nothing more in the lease's name. Break caught: `acquire` without raising
    the term, by which nodes tell an old steward's deletes."""
    term = (await catalog.meta()).term
    old, meta = await _acquire(catalog, "first", await _read(catalog))
    assert meta.term == term + 1
    _, meta = await _acquire(catalog, "second", await _read(catalog))
    assert meta.term == term + 2
    for action in (leases.check, leases.renew, leases.release):
        with pytest.raises(LeaseLost):
            await catalog.write(lambda tx, act=action: act(tx, old))  # type: ignore[misc]


async def test_a_released_lease_is_free_at_once(catalog: Catalog) -> None:
    """An orderly stop makes nobody wait."""
    lease, _ = await _acquire(catalog, "first", await _read(catalog))
    await catalog.write(lambda tx: leases.release(tx, lease))
    free = await _read(catalog)
    assert LeaseWatch(_Monotonic(), expiry_s=10).expired(free)
    await _acquire(catalog, "second", free)


async def test_s19_the_horizon_moves_forward_behind_the_epoch(catalog: Catalog) -> None:
    """Never back, never up to the epoch in which blobs are being written. Break caught: no such check."""
    with pytest.raises(ValueError, match="horizon"):
        await catalog.write(lambda tx: leases.set_horizon(tx, 1))
    for expected in (2, 3, 4):
        assert await catalog.write(leases.advance_epoch) == expected
        assert (await catalog.meta()).upload_epoch == expected
    await catalog.write(lambda tx: leases.set_horizon(tx, 3))
    for wrong in (2, 4, 5):
        with pytest.raises(ValueError, match="horizon"):
            await catalog.write(lambda tx, e=wrong: leases.set_horizon(tx, e))  # type: ignore[misc]
    assert (await catalog.read(read_meta)).collect_horizon == 3
