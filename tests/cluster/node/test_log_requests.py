"""S17 over the wire: appending to a node's share of the catalog's log, reading, listing and trimming it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cluster.log_names import LogEntryName, pack_name
from cluster.wire import (
    LOG_STATUS_MAX,
    AppendLog,
    LogStatus,
    LogStatusRequest,
    LogTrimmed,
    Op,
    ReadLog,
    Status,
    TrimLog,
    decode_appended,
    decode_log_status,
    decode_log_trimmed,
    encode,
)
from codec.block import page_checksums, unpack_key, verify_log
from tests.cluster.node.log_writes import Entry, append_message, batch, record, snapshot
from tests.cluster.node.node_bench import CATALOG
from tests.cluster.node.node_client import NodeClient, served


def payloads(*entries: Entry) -> bytes:
    return b"".join(payload for _, payload in entries)


async def read(client: NodeClient, name: LogEntryName) -> bytes:
    reply = await client.send(Op.READ_LOG, ReadLog(*name))
    assert reply.status == Status.OK
    return bytes(verify_log(reply.payload, unpack_key(pack_name(name)))[1])


async def listed(client: NodeClient, after: bytes = b"", limit: int = 9) -> LogStatus:
    return decode_log_status((await client.send(Op.LOG_STATUS, LogStatusRequest(after, limit))).header)


async def test_a_log_goes_there_and_back(tmp_path: Path) -> None:
    entries = [record(batch(1), 1), record(batch(2), 100_000), record(snapshot(2), 1 << 20)]
    async with served(tmp_path) as node:
        client = await node.connect()
        empty = await listed(client)
        assert (empty.catalog_id, empty.term, empty.entries, empty.names) == (b"", 0, 0, [])
        reply = await client.send(Op.APPEND_LOG, append_message(*entries, term=4), payloads(*entries))
        assert reply.status == Status.OK
        assert decode_appended(reply.header).incarnation
        assert [await read(client, name) for name, _ in entries] == [payload for _, payload in entries]
        said = await listed(client, limit=2)
        names = [(*name, len(payload)) for name, payload in entries]
        total = sum(len(payload) for _, payload in entries)
        assert said == LogStatus(CATALOG, 4, 3, total, 0, names[:2], True)
        rest = await listed(client, pack_name(batch(2)))
        assert (rest.names, rest.more) == (names[2:], False)
        trimmed = await client.send(Op.TRIM_LOG, TrimLog(CATALOG, 4, snapshot(2)))
        assert decode_log_trimmed(trimmed.header) == LogTrimmed(2, False)
        assert (await client.send(Op.READ_LOG, ReadLog(*batch(1)))).status == Status.NOT_FOUND
        assert (await listed(client)).names == names[2:]


async def test_requests_that_make_no_sense_change_nothing(tmp_path: Path) -> None:
    """Red when a node stores what does not match the checksums of who sent it (S6)."""
    one, two = record(batch(1)), record(batch(2))
    good = append_message(one, two)
    wrong_sum = [(*good.entries[0][:5], page_checksums(b"other"))]
    wrong = [
        (good, payloads(one, two) + b"more"),
        (good, payloads(one, two)[:-1]),
        (append_message(one, one), payloads(one, one)),
        (AppendLog(CATALOG, 1, wrong_sum), payloads(one)),
        (AppendLog(CATALOG, 1, []), b""),
        (AppendLog(CATALOG, 1, [(0, 1, 1, 0, 0, b"")]), b""),
        (AppendLog(CATALOG, 1, [(0, 1, 1, 0, -1, b"")]), b""),
        (append_message((LogEntryName(7, 1, 1, 0), b"x")), b"x"),
        (append_message((LogEntryName(0, 1, -1, 0), b"x")), b"x"),
        (append_message(one, catalog=b"short"), payloads(one)),
    ]
    async with served(tmp_path) as node:
        client = await node.connect()
        asks = [client.send(Op.APPEND_LOG, message, payload) for message, payload in wrong]
        asks += [
            client.send(Op.TRIM_LOG, TrimLog(CATALOG, 1, LogEntryName(9, 1, 1, 0))),
            client.send(Op.TRIM_LOG, encode(TrimLog(b"", 1, batch(1)))),
            client.send(Op.READ_LOG, ReadLog(0, 1, 1, 1 << 24)),
            client.send(Op.LOG_STATUS, LogStatusRequest(b"short", 1)),
            client.send(Op.LOG_STATUS, LogStatusRequest(b"", LOG_STATUS_MAX + 1)),
        ]
        assert {reply.status for reply in await asyncio.gather(*asks)} == {Status.BAD_REQUEST}
        assert (await listed(client)).entries == 0
