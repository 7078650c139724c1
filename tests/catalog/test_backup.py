"""Backup while others write, restore, and what a restored catalog may delete (S18, S19, P1)."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pysqlite3.dbapi2 as driver
import pytest

from catalog import (
    access_keys,
    backup,
    engine,
    leases,
    listing,
    lookup,
    new_file,
    nodes,
    sqlite,
    work,
)
from catalog.engine import Catalog
from catalog.errors import CatalogFailed, CatalogRefused
from catalog.leases import LeaseWatch
from catalog.model import ExtraCopy, Meta
from cluster import wire
from cluster.errors import RemoteFault
from cluster.topology import NodeSet
from tests.catalog.making import (
    CLUSTER_ID,
    SQLITE_ONLY,
    Clock,
    SqliteStore,
    fail_on_fatal,
    new_blob,
    put,
    small_settings,
)
from tests.catalog.making import start_child as child
from tests.cluster.nodes import CLUSTER_ID as NODES_CLUSTER_ID
from tests.cluster.nodes import SECRET, RealNodes

_EPOCH_MAX = 1 << 32


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    """Where a restored catalog goes."""
    (tmp_path / "restored").mkdir()
    return tmp_path / "restored" / "catalog.sqlite"


@asynccontextmanager
async def _opened(path: Path, clock: Clock) -> AsyncIterator[Catalog]:
    catalog = Catalog.open(path, small_settings(), clock=clock, on_fatal=fail_on_fatal)
    await catalog.start()
    try:
        yield catalog
    finally:
        await catalog.close()


async def _keys(catalog: Catalog, bucket_id: int) -> list[bytes]:
    page = await catalog.read(
        lambda reader: listing.list_objects(reader, bucket_id=bucket_id, limit=1_000_000)
    )
    return [entry.key for entry in page.entries]


@SQLITE_ONLY
async def test_a_backup_while_other_processes_write_is_one_moment(
    store: SqliteStore, catalog: Catalog, bucket_id: int, clock: Clock, restored: Path
) -> None:
    """Two processes put at full speed, each client its keys in order. Whatever was acknowledged before the backup
    began is in it; of each client it has a prefix; the writers are not held up by it. Red when the file is copied
    without its log."""
    children = [child("put", str(store.path), str(bucket_id), name, "4", "100000") for name in ("a", "b")]
    said: list[list[str]] = [[], []]

    def listen(number: int) -> None:
        output = children[number].stdout
        assert output is not None
        said[number].extend(line.strip() for line in output)

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(3):
            seen = [len(lines) for lines in said]
            while any(len(lines) < count + 100 for lines, count in zip(said, seen, strict=True)):
                await asyncio.sleep(0.005)
            before = {line for lines in said for line in list(lines)}
            target = store.path.with_name(f"backup-{turn}")
            await asyncio.to_thread(backup.backup, store.path, target)
            where = restored.with_name(f"{turn}.sqlite")
            await asyncio.to_thread(backup.restore, target, where)
            async with _opened(where, clock) as copy:
                held = {key.decode() for key in await _keys(copy, bucket_id)}
            assert before <= held
            for name in ("a", "b"):
                for client in range(4):
                    turns = [int(key.split("-")[2]) for key in held if key.startswith(f"{name}-{client}-")]
                    assert sorted(turns) == list(range(len(turns)))
    finally:
        for one in children:
            one.send_signal(signal.SIGKILL)
        for one, thread in zip(children, threads, strict=True):
            thread.join()
            one.wait()
            for pipe in (one.stdin, one.stdout, one.stderr):
                assert pipe is not None
                pipe.close()
    assert sum(map(len, said)) > 600


@SQLITE_ONLY
async def test_a_backup_has_what_is_still_in_the_log(
    store: SqliteStore, clock: Clock, bucket_id: int, catalog: Catalog, restored: Path
) -> None:
    """And it is one file, for the owner only, with nothing beside it."""
    await put(catalog, bucket_id, b"key")
    assert Path(f"{store.path}-wal").stat().st_size > 0
    directory = restored.parent
    backup.backup(store.path, directory / "backup")
    assert [entry.name for entry in directory.iterdir()] == ["backup"]
    assert (directory / "backup").stat().st_mode & 0o777 == 0o600
    (directory / "backup").chmod(0o400)
    backup.restore(directory / "backup", restored)
    assert {entry.name for entry in directory.iterdir()} == {"backup", "catalog.sqlite"}
    assert restored.stat().st_mode & 0o777 == 0o600
    async with _opened(restored, clock) as copy:
        assert await _keys(copy, bucket_id) == [b"key"]


async def _metas(store: SqliteStore, catalog: Catalog, restored: Path, clock: Clock) -> tuple[Meta, Meta]:
    backup.backup(store.path, restored.with_name("backup"))
    backup.restore(restored.with_name("backup"), restored, clock=clock)
    async with _opened(restored, clock) as copy:
        return await catalog.meta(), await copy.meta()


@SQLITE_ONLY
async def test_s18_a_restored_catalog_outranks_the_one_it_replaces(
    store: SqliteStore, catalog: Catalog, clock: Clock, restored: Path
) -> None:
    """The old one may have changed hands many times since its backup, and may turn up again: nodes, which compare
    (id, term), obey the restored one and from then on refuse the old one. So they do after a second restore of the
    same backup. Red when `restore` keeps the term or raises it by one."""
    old, new = await _metas(store, catalog, restored, clock)
    for number in range(50):
        lease = await catalog.read(leases.read)
        await catalog.write(lambda tx, n=number, seen=lease: leases.acquire(tx, f"steward-{n}", seen=seen))  # type: ignore[misc]
    old = await catalog.meta()
    assert new.catalog_id == old.catalog_id
    assert new.cluster_id == old.cluster_id
    assert old.term + (1 << 31) < new.term < 1 << 62
    again = restored.with_name("again.sqlite")
    clock.now_ms += 60_000
    backup.restore(restored.with_name("backup"), again, clock=clock)
    async with _opened(again, clock) as second:
        assert (await second.meta()).term > new.term + 1_000_000
    clock.now_ms = 0
    broken_clock = restored.with_name("broken.sqlite")
    backup.restore(restored.with_name("backup"), broken_clock, clock=clock)
    async with _opened(broken_clock, clock) as third:
        assert (await third.meta()).term > old.term + (1 << 31)


@SQLITE_ONLY
async def test_s18_nodes_obey_the_restored_catalog_and_refuse_the_old_one(
    store: SqliteStore, catalog: Catalog, clock: Clock, restored: Path, tmp_path: Path
) -> None:
    """On a real node: the old catalog gives orders until the restored one has given its first."""
    old, new = await _metas(store, catalog, restored, clock)

    def order(meta: Meta) -> bytes:
        return wire.encode(wire.DeleteBlocks(meta.catalog_id, meta.term, [(bytes(21), 1)]))

    with RealNodes(tmp_path, count=1) as running:
        link_set = NodeSet.connecting(
            running.infos, secret=SECRET, cluster_id=NODES_CLUSTER_ID, role=wire.Role.STEWARD
        )
        async with link_set as linked:
            assert await linked.wait_up(10) == 1
            link = linked.link(1)
            assert link is not None
            for meta in (old, new):
                await link.call(int(wire.Op.DELETE_BLOCKS), order(meta), None, 5.0)
            with pytest.raises(RemoteFault) as refused:
                await link.call(int(wire.Op.DELETE_BLOCKS), order(old), None, 5.0)
            assert refused.value.status == wire.Status.FENCED


@SQLITE_ONLY
async def test_s18_a_restored_catalog_deletes_nothing_it_does_not_know(
    store: SqliteStore, catalog: Catalog, bucket_id: int, clock: Clock, restored: Path
) -> None:
    """Orphan collection is off until an operator accepts, in every process, and no copy is called an extra one:
    it may belong to a layout that the catalog forgot. Red when `restore` leaves the setting as it is."""
    blob = new_blob()
    await put(catalog, bucket_id, b"key", blob)
    extra = ExtraCopy(blob.id, 0, 0, 9, 5)
    await catalog.write(lambda tx: work.queue_extra(tx, [extra]))
    old, new = await _metas(store, catalog, restored, clock)
    assert old.orphans_allowed
    assert not new.orphans_allowed
    later = clock.now_ms + catalog.settings.grace_ms
    async with _opened(restored, clock) as copy, _opened(restored, clock) as other:
        assert not (await other.meta()).orphans_allowed
        assert await copy.read(lambda reader: work.due_extra(reader, later, 10)) == []
        await copy.write(leases.allow_orphans)
        assert (await other.meta()).orphans_allowed
        assert await copy.read(lambda reader: work.due_extra(reader, later, 10)) == [extra]
        (event,) = await copy.read(work.list_events)
        assert event.kind == "catalog-restored"


@SQLITE_ONLY
async def test_a_restore_says_that_deleted_access_keys_are_good_again(
    store: SqliteStore, catalog: Catalog, clock: Clock, restored: Path
) -> None:
    """One may have leaked. Red when the event of a restore said nothing of keys; without any it does not."""
    await _metas(store, catalog, restored, clock)
    async with _opened(restored, clock) as copy:
        (event,) = await copy.read(work.list_events)
        assert "key" not in event.detail
    again = restored.parent / "again" / restored.name
    again.parent.mkdir()
    await catalog.write(
        lambda tx: access_keys.create(tx, access_key="leaked", sealed_secret=b"s", role="admin")
    )
    await _metas(store, catalog, again, clock)
    await catalog.write(lambda tx: access_keys.delete(tx, "leaked"))
    async with _opened(again, clock) as copy:
        (event,) = await copy.read(lambda reader: work.list_events(reader, limit=1, newest_first=True))
        assert (event.kind, "access keys (1)" in event.detail) == ("catalog-restored", True)
        assert [key.access_key for key in await copy.read(access_keys.list_keys)] == ["leaked"]


@SQLITE_ONLY
async def test_s19_a_restored_catalog_begins_a_later_epoch(
    store: SqliteStore, catalog: Catalog, bucket_id: int, clock: Clock, restored: Path
) -> None:
    """Blobs that were written after the backup stay behind the epochs of the new ones, so that they can be
    collected one day without touching those. Red when `restore` keeps the epoch."""
    await catalog.write(leases.advance_epoch)
    old, new = await _metas(store, catalog, restored, clock)
    assert old.upload_epoch + 1024 == new.upload_epoch < _EPOCH_MAX
    assert new.collect_horizon == old.collect_horizon
    async with _opened(restored, clock) as copy:
        await put(copy, bucket_id, b"new", new_blob(epoch=new.upload_epoch))
        await copy.write(lambda tx: leases.set_horizon(tx, new.upload_epoch - 1))
        assert await lookup.lookup(copy, bucket_id, b"new") is not None


@SQLITE_ONLY
async def test_s22_nobody_holds_a_restored_lease(
    store: SqliteStore, catalog: Catalog, clock: Clock, restored: Path
) -> None:
    """A steward of the old catalog has no business with it, and the new one need not wait."""
    lease, _ = await catalog.write(lambda tx: leases.acquire(tx, "old", seen=leases.read(tx)))
    await _metas(store, catalog, restored, clock)
    async with _opened(restored, clock) as copy:
        free = await copy.read(leases.read)
        assert free.counter > lease.counter
        assert LeaseWatch(lambda: 0.0, expiry_s=10).expired(free)


@SQLITE_ONLY
async def test_nodes_and_work_come_with_a_backup(
    store: SqliteStore, catalog: Catalog, clock: Clock, restored: Path
) -> None:
    """All of the catalog, also what only the steward reads."""
    await catalog.write(
        lambda tx: nodes.register(
            tx, node_id=b"1" * 16, name="n", region="r", zone="z", host="h", port=1, directory="/d"
        )
    )
    catalog.abandon(new_blob())
    await catalog.write(lambda tx: None)
    await _metas(store, catalog, restored, clock)
    async with _opened(restored, clock) as copy:
        assert await nodes.current(copy) == await nodes.current(catalog)
        assert await copy.read(work.garbage_count) == 1


@SQLITE_ONLY
def test_nothing_is_overwritten(store: SqliteStore, restored: Path) -> None:
    """Neither an earlier backup, nor a catalog, nor the log of one that is gone, which SQLite would apply to
    the restored file. Red when `refuse_occupied` does not look for logs."""
    target = restored.with_name("backup")
    backup.backup(store.path, target)
    with pytest.raises(CatalogRefused, match="exists"):
        backup.backup(store.path, target)
    with pytest.raises(CatalogRefused, match="exists"):
        backup.backup(store.path, store.path)
    with pytest.raises(CatalogRefused, match="exists"):
        backup.restore(target, store.path)
    for end in ("-wal", "-shm", "-journal"):
        log = Path(f"{restored}{end}")
        log.write_bytes(b"of another catalog")
        with pytest.raises(CatalogRefused, match=log.name):
            backup.restore(target, restored)
        with pytest.raises(CatalogRefused, match=log.name):
            engine.create(restored, cluster_id=CLUSTER_ID, nodes_hold_data=False)
        log.unlink()
    assert not restored.exists()
    backup.restore(target, restored)


@SQLITE_ONLY
def test_what_is_no_backup_is_refused(store: SqliteStore, restored: Path) -> None:
    """Missing files, other files, a cut or flipped one, a newer release's, a catalog in use without its log."""
    directory = restored.parent
    with pytest.raises(CatalogRefused, match="no catalog"):
        backup.backup(directory / "missing", directory / "backup")
    with pytest.raises(CatalogRefused, match="no backup"):
        backup.restore(directory / "missing", restored)
    good = directory / "good"
    backup.backup(store.path, good)
    content = good.read_bytes()
    bad = directory / "bad"
    for wrong in (b"", b"no database at all" * 500, content[: len(content) // 2], _scribbled(content)):
        bad.write_bytes(wrong)
        with pytest.raises((CatalogRefused, CatalogFailed), match=r"bad is (not a catalog|damaged)"):
            backup.restore(bad, restored)
    bad.write_bytes(content)
    connection = driver.connect(str(bad), isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(CatalogRefused, match="newer Trivet"):
        backup.restore(bad, restored)
    bad.write_bytes(content)
    Path(f"{bad}-wal").write_bytes(b"what was committed last")
    with pytest.raises(CatalogRefused, match="in use"):
        backup.restore(bad, restored)
    assert {entry.name for entry in directory.iterdir()} == {"good", "bad", "bad-wal"}


def _scribbled(content: bytes) -> bytes:
    """Whole in length and header, with every page after the second but its first half overwritten."""
    page = 4096
    pages = [content[at : at + page] for at in range(0, len(content), page)]
    return b"".join(pages[:2] + [one[:2048] + b"\xff" * 2048 for one in pages[2:]])


@SQLITE_ONLY
def test_a_failed_backup_leaves_nothing(
    store: SqliteStore, restored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged catalog gives no backup that looks like one, and a full disk no half of one. Red when the check
    after copying is left out."""
    target = restored.with_name("backup")

    def fail(connection: object, growing: Path) -> None:
        growing.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite, "copy", fail)
        with pytest.raises(CatalogFailed, match="No space left"):
            backup.backup(store.path, target)
    with sqlite.finished_file(store.path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox'").fetchone()
    content = bytearray(store.path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096  # a table that copying does not look into
    store.path.write_bytes(content)
    with pytest.raises(CatalogFailed, match=r"the copy of .*catalog.sqlite is damaged"):
        backup.backup(store.path, target)
    with pytest.raises(CatalogFailed, match="No such file"):
        backup.backup(store.path, restored.parent / "no such directory" / "backup")
    assert list(restored.parent.iterdir()) == []


@SQLITE_ONLY
async def test_sigkill_leaves_whole_files_or_none(
    store: SqliteStore, catalog: Catalog, bucket_id: int, clock: Clock, tmp_path: Path
) -> None:
    """Wherever it strikes in a backup or a restore: what has its name can be restored or opened, what was said to be
    done is there, and what is half made is in nobody's way. Red when the file gets its name before it is filled."""
    for turn in range(50):
        await put(catalog, bucket_id, b"%d" % turn)
    for round_number in range(4):
        directory = tmp_path / f"round-{round_number}"
        directory.mkdir()
        process = child("back-up", str(store.path), str(directory))
        assert process.stdout is not None
        said = [await asyncio.to_thread(process.stdout.readline) for _ in range(1 + round_number)]
        process.send_signal(signal.SIGKILL)
        rest, errors = await asyncio.to_thread(process.communicate)
        assert errors == ""
        named = {entry.name for entry in directory.iterdir() if "." not in entry.name}
        assert {line.strip() for line in said} | set(rest.split()) <= named
        for name in sorted(named):
            path = directory / name
            if name.startswith("backup"):
                path = directory / f"{name}.sqlite"
                backup.restore(directory / name, path)
            async with _opened(path, clock) as copy:
                assert len(await _keys(copy, bucket_id)) == 50
        for half in directory.glob("*.new"):
            backup.backup(store.path, half.with_suffix(""))


def test_two_at_once_do_not_share_a_file(tmp_path: Path) -> None:
    """The second is refused instead of writing into what the first is about to rename. A half file that a crash
    left is no obstacle. Red without the lock on the growing file."""
    path = tmp_path / "file"
    Path(f"{path}.new").write_bytes(b"half of an earlier one")
    with new_file.made_whole(path) as growing:
        assert growing.read_bytes() == b""
        growing.write_bytes(b"first")
        with pytest.raises(CatalogRefused, match="another process"), new_file.made_whole(path):
            pass
        assert not path.exists()
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
