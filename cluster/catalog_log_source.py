"""What nodes hold of the catalog's log, for a restore (S17): of a directory that no process has open, or over the wire.

Both give the same: batches as they were appended, whole ones only, and chunks of snapshots, each payload verified
against its checksums and its name. To be used from synchronous code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from catalog.log_records import LogUnreadable
from cluster import wire
from cluster.errors import LinkError
from cluster.link import Link
from cluster.log_names import BATCH, LogEntryName, pack_name, piece_name, pieces_of
from cluster.node.config import NodeConfig
from cluster.node.files import RealFiles
from cluster.node.identity import read_identity
from cluster.node.records import BlockUnreadable
from cluster.node.store import BlockMissing, Store
from codec.block import BlockCorrupt, unpack_key, verify_log

_CALL_S_MAX: Final = 30.0


class LogSource:
    """One node's share. Own it by `with`. `catalog_id` and `term` are those that the node obeys (S18); no id when no
    catalog has ever told it."""

    def __init__(self, what: str) -> None:
        self.what: Final = what  # for people
        self.catalog_id = b""
        self.term = 0
        self._pieces: dict[LogEntryName, int] = {}  # of each batch
        self._names: list[LogEntryName] = []

    def names(self) -> list[LogEntryName]:
        """All entries, sorted by (kind, term, batch, chunk); a batch has one name, with chunk 0."""
        return list(self._names)

    def read(self, name: LogEntryName) -> bytes:
        """The payload of one of `names`, verified. Raises LogUnreadable."""
        pieces = self._pieces.get(name, 1)
        if pieces == 1:
            return self._verified(name)
        return b"".join(
            self._verified(piece_name(name.term, name.batch, piece, pieces)) for piece in range(pieces)
        )

    def close(self) -> None:
        """Give the node back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _found(self, pages: Iterable[wire.LogStatus]) -> None:
        """Take down what the node says that it holds."""
        pieces: dict[tuple[int, int, int], int] = {}
        for page in pages:
            self.catalog_id, self.term = page.catalog_id, page.term
            for kind, term, batch, chunk, _ in page.names:
                if kind == BATCH:
                    of_all = term, batch, pieces_of(chunk)
                    pieces[of_all] = pieces.get(of_all, 0) + 1
                else:
                    self._names.append(LogEntryName(kind, term, batch, chunk))
        for (term, batch, wanted), count in pieces.items():
            if count == wanted:
                name = LogEntryName(BATCH, term, batch, 0)
                self._pieces[name] = wanted
                self._names.append(name)
        self._names.sort()

    def _verified(self, name: LogEntryName) -> bytes:
        try:
            _, payload = verify_log(self._record(name), unpack_key(pack_name(name)))
        except BlockCorrupt as error:
            raise LogUnreadable(f"{self.what}: {name}: {error}") from error
        return bytes(payload)

    def _record(self, name: LogEntryName) -> wire.Buffer:
        raise NotImplementedError


class DirectoryLogSource(LogSource):
    """A node's directory. It is taken as by the node's own process, which must not run, and recovered as at any
    start; nothing is served, scrubbed or compacted. Raises NodeRefused and OSError when it can't be had."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory))
        files = RealFiles()
        identity = read_identity(directory, files)
        config = NodeConfig(
            directory=directory,
            cluster_id=identity.cluster_id,
            secret=bytes(32),  # for peers, and there are none
        )
        self._store = Store.open(config, files)
        try:
            self._found(_pages(self._store.log_status))
        except BaseException:
            self._store.abandon()
            raise

    def close(self) -> None:
        self._store.abandon()

    def _record(self, name: LogEntryName) -> wire.Buffer:
        try:
            return self._store.read_log(name, 0)[0]
        except (BlockMissing, BlockUnreadable) as error:
            raise LogUnreadable(f"{self.what}: {name}: {error}") from error


class LinkLogSource(LogSource):
    """A running node. Raises LogUnreadable when it does not answer within `connect_s_max`."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        secret: bytes,
        cluster_id: bytes,
        node_id: bytes,
        connect_s_max: float = 10.0,
    ) -> None:
        super().__init__(f"node {address[0]}:{address[1]}")
        self._runner = asyncio.Runner()
        self._link = Link(address, secret=secret, cluster_id=cluster_id, node_id=node_id, role=wire.Role.CLI)
        try:
            self._runner.run(self._connect(connect_s_max))
            self._found(_pages(self._status))
        except BaseException:
            self.close()
            raise

    async def _connect(self, seconds: float) -> None:
        await self._link.start()
        try:
            async with asyncio.timeout(seconds):
                await self._link.wait_up()
        except TimeoutError:
            raise LogUnreadable(f"{self.what}: {self._link.failure}") from None

    def close(self) -> None:
        with self._runner:
            self._runner.run(self._link.close())

    def _record(self, name: LogEntryName) -> wire.Buffer:
        return self._call(wire.Op.READ_LOG, wire.ReadLog(*name)).payload

    def _status(self, after: bytes, limit: int) -> wire.LogStatus:
        reply = self._call(wire.Op.LOG_STATUS, wire.LogStatusRequest(after, limit))
        return wire.decode_log_status(reply.header)

    def _call(self, op: wire.Op, message: wire.Message) -> wire.Frame:
        async def ask() -> wire.Frame:
            return await self._link.call(int(op), wire.encode(message), None, _CALL_S_MAX)

        try:
            return self._runner.run(ask())
        except LinkError as error:
            raise LogUnreadable(f"{self.what}: {error}") from error


def _pages(status: Callable[[bytes, int], wire.LogStatus]) -> Iterator[wire.LogStatus]:
    after, more = b"", True
    while more:
        page = status(after, wire.LOG_STATUS_MAX)
        yield page
        if not page.names:
            return
        kind, term, batch, chunk, _ = page.names[-1]
        after, more = pack_name(LogEntryName(kind, term, batch, chunk)), page.more
