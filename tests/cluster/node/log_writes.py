"""Requests to the catalog's log of a node, for tests."""

from __future__ import annotations

import random
from pathlib import Path

from cluster.log_names import BATCH, SNAPSHOT, LogEntryName, pack_name
from cluster.node.group import Write
from cluster.node.store import BlockMissing
from cluster.wire import AppendLog, LogTrimmed, Op, Status, TrimLog
from codec.block import page_checksums, unpack_key, verify_log
from tests.cluster.node.node_bench import CATALOG, NodeBench

Entry = tuple[LogEntryName, bytes]


def batch(number: int, term: int = 1) -> LogEntryName:
    return LogEntryName(BATCH, term, number, 0)


def snapshot(number: int, chunk: int = 0, term: int = 1) -> LogEntryName:
    return LogEntryName(SNAPSHOT, term, number, chunk)


def record(name: LogEntryName, size: int = 300, variant: int = 0) -> Entry:
    return name, random.Random(f"{name} {variant}").randbytes(size)


def append_message(*entries: Entry, catalog: bytes = CATALOG, term: int = 1) -> AppendLog:
    listed = [(*name, len(payload), page_checksums(payload)) for name, payload in entries]
    return AppendLog(catalog, term, listed)


def append_write(*entries: Entry, catalog: bytes = CATALOG, term: int = 1) -> Write:
    payload = b"".join(payload for _, payload in entries)
    return Write(Op.APPEND_LOG, append_message(*entries, catalog=catalog, term=term), payload)


def append(bench: NodeBench, *entries: Entry, term: int = 1) -> Status:
    (status,) = bench.commit(append_write(*entries, term=term))
    return status


def trim(bench: NodeBench, keep: LogEntryName, *, term: int = 1) -> Write:
    return bench.ask(Op.TRIM_LOG, TrimLog(CATALOG, term, keep))


def trim_all(bench: NodeBench, keep: LogEntryName) -> int:
    """How many were dropped in all."""
    dropped, more = 0, True
    while more:
        answer = trim(bench, keep).answer
        assert isinstance(answer, LogTrimmed), answer
        dropped, more = dropped + answer.entries, answer.more
    return dropped


def read(bench: NodeBench, name: LogEntryName) -> bytes | None:
    """The verified payload, or None when the node has no such entry."""
    try:
        found, _ = bench.store.read_log(name, 0)
    except BlockMissing:
        return None
    _, payload = verify_log(found, unpack_key(pack_name(name)))
    return bytes(payload)


def held(bench: NodeBench) -> dict[LogEntryName, bytes | None]:
    """All entries as the node lists them, three at a time, and reads them; the counters must agree."""
    names: list[LogEntryName] = []
    nbytes = 0
    after, more = b"", True
    while more:
        page = bench.store.log_status(after, 3)
        names += [LogEntryName(*fields[:4]) for fields in page.names]
        nbytes += sum(fields[4] for fields in page.names)
        more = page.more
        after = pack_name(names[-1]) if names else b""
    assert (page.entries, page.nbytes) == (len(names), nbytes)
    assert names == sorted(names, key=pack_name)
    return {name: read(bench, name) for name in names}


def find_record(bench: NodeBench, name: LogEntryName) -> tuple[Path, int]:
    """File and offset of the newest record of an entry."""
    key = unpack_key(pack_name(name))
    needle = key.blob + key.stripe.to_bytes(4, "little")
    for path in reversed(bench.segments()):
        content = bench.disk.files[path].live
        at = content.rfind(needle)
        while at >= 32:
            if content[at - 32 : at - 26] == b"TRVR\x01\x03":
                return path, at - 32
            at = content.rfind(needle, 0, at + len(needle) - 1)
    raise AssertionError("no record of that entry")


def rot(bench: NodeBench, name: LogEntryName) -> None:
    """Flip a bit of its payload, on the disk and in the cache."""
    path, offset = find_record(bench, name)
    file = bench.disk.files[path]
    file.settle()
    for content in (file.live, file.durable):
        content[offset + 100] ^= 1
