"""One peer of a node: its frames in, its replies out, and the limits between them (P8).

Reads are answered on the event loop straight from the page cache; a read that has to wait for the disk goes to
a small thread pool. Everything that changes the log goes to the writer thread. All replies of one turn of the
loop leave in one write.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Final, TypeVar, cast

import msgspec

from cluster.handshake import HandshakeFailed, Peer, ServerHandshake
from cluster.log_names import LogEntryName
from cluster.node.checks import (
    BadRequest,
    check_log_status,
    check_name,
    check_page,
    check_verify,
    decode_write,
    packed_key,
)
from cluster.node.group import Write
from cluster.node.records import BlockUnreadable
from cluster.node.service import Service
from cluster.node.store import BadRange, BlockMissing
from cluster.node.verify import BlockState
from cluster.wire import (
    HANDSHAKE_FRAME_BYTES,
    MAX_FRAME_BYTES,
    BlockRead,
    BlocksVerified,
    Buffer,
    Fault,
    Frame,
    FrameDecoder,
    FrameError,
    Inventory,
    LogStatusRequest,
    Message,
    Op,
    ReadBlock,
    ReadLog,
    Role,
    Status,
    VerifyBlocks,
    decode_damaged,
    decode_inventory,
    decode_log_status_request,
    decode_read_block,
    decode_read_log,
    decode_verify_blocks,
    encode,
    encode_frame,
)

T = TypeVar("T")
log = logging.getLogger("trivet.node")

_WRITES: Final = frozenset({Op.PUT_BLOCK, Op.DELETE_BLOCKS, Op.SYNC, Op.FENCE, Op.APPEND_LOG, Op.TRIM_LOG})
_FIRST_PAGE: Final = encode(BlockRead(0))
_FLUSH_BYTES: Final = 1 << 20  # replies queued in one turn before they are given to the transport
_POOLED_READ_BYTES: Final = 512 << 10  # what a read under way counts against reply_bytes_max
_WRITE_OVERHEAD_BYTES: Final = 256  # what a queued request costs besides its bytes
READ_ROOM: Final = len(encode_frame(0, 0, 0, 0, _FIRST_PAGE, 0))
"""Left free before a block that is read, for the frame around it."""


class Connection(asyncio.BufferedProtocol):
    """One peer. Frames wait in `_backlog` while the peer owes us reading or the writer owes us room (P8)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._config = service.config
        self._store = service.store
        self._decoder = FrameDecoder(HANDSHAKE_FRAME_BYTES)
        self._handshake: ServerHandshake | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._backlog: collections.deque[Frame] = collections.deque()
        self._arrived = 0.0  # when the frames in the backlog came, for their deadlines
        self._out: list[Buffer] = []
        self._out_bytes = 0
        self._queued_bytes = 0  # ours of the server's
        self._pooled_bytes = 0  # reads under way in the pool
        self._paused = False  # reading from the peer
        self._choked = False  # the peer does not take what we write
        self._writes: list[Write] = []
        self._working = False
        self._name = "?"
        self._transport: asyncio.Transport

    # -- the transport's calls ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by shape only
        service = self._service
        self._name = str(transport.get_extra_info("peername") or "on this machine")
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport.set_write_buffer_limits(self._config.reply_bytes_max)
        service.connections.add(self)
        if len(service.connections) > self._config.connections_max:
            log.warning("%s: refused, %d connections are open", self._name, self._config.connections_max)
            self._transport.abort()
            return
        self._handshake = ServerHandshake(
            secret=self._config.secret,
            cluster_id=self._store.identity.cluster_id,
            node_id=self._store.identity.node_id,
            incarnation=self._store.incarnation,
        )
        self._timeout = service.loop.call_later(self._config.handshake_timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.connections.discard(self)
        self._backlog.clear()
        self._out.clear()
        if self._timeout is not None:
            self._timeout.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._decoder.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        try:
            frames = self._decoder.buffer_updated(nbytes)
        except FrameError as error:
            self._refuse(f"unusable frame: {error}")
            return
        if not frames:
            return
        self._arrived = self._service.loop.time()
        if self._handshake is not None:
            self._shake(frames)
            return
        self._backlog.extend(frames)
        self.work()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self.work()

    # -- handshake (S25) ----------------------------------------------------------------------------------

    def _shake(self, frames: Iterable[Frame]) -> None:
        handshake = self._handshake
        assert handshake is not None
        for frame in frames:
            if handshake.result is not None:
                self._refuse("requests before the handshake was over")
                return
            try:
                self._transport.write(handshake.receive(frame))
            except HandshakeFailed as failure:
                self._transport.write(failure.reply)
                self._refuse(f"handshake failed: {failure}")
                return
        if handshake.result is not None:
            self._welcome(handshake.result)

    def _welcome(self, peer: Peer) -> None:
        assert self._timeout is not None
        self._timeout.cancel()
        self._handshake = None
        self._decoder.max_frame_bytes = MAX_FRAME_BYTES
        self._name = f"{peer.role} {self._name}"
        # The command line comes and goes with every look at the store.
        level = logging.DEBUG if peer.role == Role.CLI else logging.INFO
        log.log(level, "%s: connected, protocol %d", self._name, peer.version)

    def _too_slow(self) -> None:
        self._refuse("no handshake in time")

    def _refuse(self, reason: str) -> None:
        """Close this connection; the others go on."""
        log.warning("%s: %s; connection closed", self._name, reason)
        self._backlog.clear()
        self._transport.close()

    # -- requests -----------------------------------------------------------------------------------------

    def work(self) -> None:
        """Handle the frames that wait, as far as limits allow; ask for more when none is left."""
        if self._working or self._service.stopping or self._transport.is_closing():
            return
        backlog = self._backlog
        self._working = True  # a transport may call resume_writing from within a write
        try:
            while True:
                while backlog and not self._is_held_back():
                    self._handle(backlog.popleft())
                    if self._out_bytes > _FLUSH_BYTES:
                        self.flush()
                if self._writes:
                    self._service.writer.submit(self._writes)
                    self._writes = []
                self.flush()
                if not backlog or self._is_held_back():
                    break
        finally:
            self._working = False
        if backlog:
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _is_held_back(self) -> bool:
        """Whether the next request has to wait: something will call `work` again."""
        service, config = self._service, self._config
        if self._choked or self._pooled_bytes > config.reply_bytes_max:
            return True
        if self._queued_bytes > config.connection_queue_bytes_max:
            return True
        if service.queued_bytes > config.queue_bytes_max:
            service.wait_for_room(self)
            return True
        return False

    def _handle(self, frame: Frame) -> None:
        op = frame.op
        deadline = self._arrived + frame.deadline_ms / 1000 if frame.deadline_ms else 0.0
        if 0 < deadline < self._service.loop.time():
            self._fault(frame, Status.DEADLINE, "too late")
            return
        try:
            if op == Op.READ_BLOCK:
                self._read(frame, decode_read_block(frame.header))
            elif op in _WRITES:
                self._write(frame, Op(op), deadline)
            elif op == Op.STATUS:
                self._reply(frame, encode(self._service.status()))
            elif op == Op.INVENTORY:
                self._inventory(frame, decode_inventory(frame.header))
            elif op == Op.VERIFY_BLOCKS:
                self._verify(frame, decode_verify_blocks(frame.header), deadline)
            elif op == Op.READ_LOG:
                self._read_log(frame, decode_read_log(frame.header))
            elif op == Op.LOG_STATUS:
                self._log_status(frame, decode_log_status_request(frame.header))
            elif op == Op.DAMAGED:
                message = decode_damaged(frame.header)
                check_page(message)
                self._reply(frame, encode(self._store.damaged(message.after, message.limit)))
            else:
                self._fault(frame, Status.NOT_SUPPORTED, f"op {op} is not served")
        except (msgspec.DecodeError, BadRange, BadRequest) as error:
            self._fault(frame, Status.BAD_REQUEST, str(error))

    def _read(self, frame: Frame, message: ReadBlock) -> None:
        key = packed_key(message.blob, message.stripe, message.shard)
        try:
            buffer, first_page = self._store.read(key, message.start, message.stop, READ_ROOM, True)
        except BlockingIOError:
            self._pooled_bytes += _POOLED_READ_BYTES
            args = (key, message.start, message.stop, READ_ROOM, False)
            self._in_pool(self._store.read, args, lambda future: self._read_done(frame, future))
        except BlockMissing:
            self._fault(frame, Status.NOT_FOUND, "no such block")
        except BlockUnreadable as error:
            self._fault(frame, Status.CORRUPT, str(error))
        else:
            self._send_block(frame, buffer, first_page)

    def _send_block(self, frame: Frame, buffer: bytearray, first_page: int) -> None:
        header = encode(BlockRead(first_page)) if first_page else _FIRST_PAGE
        payload_length = len(buffer) - READ_ROOM
        buffer[:READ_ROOM] = encode_frame(frame.request_id, frame.op, Status.OK, 0, header, payload_length)
        self._out.append(buffer)
        self._out_bytes += len(buffer)
        self._store.figures.sent(payload_length)

    def _read_done(self, frame: Frame, future: Future[tuple[bytearray, int]]) -> None:
        self._pooled_bytes -= _POOLED_READ_BYTES
        try:
            self._send_block(frame, *future.result())
        except BlockMissing:
            self._fault(frame, Status.NOT_FOUND, "it is not here")
        except BadRange as error:
            self._fault(frame, Status.BAD_REQUEST, str(error))
        except BlockUnreadable as error:
            self._fault(frame, Status.CORRUPT, str(error))
        self._after_pool()

    def _inventory(self, frame: Frame, message: Inventory) -> None:
        check_page(message)
        self._reply_from_pool(frame, self._store.inventory, (message.after, message.limit))

    def _read_log(self, frame: Frame, message: ReadLog) -> None:
        name = LogEntryName(message.kind, message.term, message.batch, message.chunk)
        check_name(*name)
        self._pooled_bytes += _POOLED_READ_BYTES
        self._in_pool(self._store.read_log, (name, READ_ROOM), lambda future: self._read_done(frame, future))

    def _log_status(self, frame: Frame, message: LogStatusRequest) -> None:
        check_log_status(message)
        self._reply_from_pool(frame, self._store.log_status, (message.after, message.limit))

    def _verify(self, frame: Frame, message: VerifyBlocks, deadline: float) -> None:
        check_verify(message)
        service, transport = self._service, self._transport

        def is_wanted() -> bool:
            late = 0 < deadline < service.loop.time()
            return not (late or service.stopping or transport.is_closing())

        answer = service.verifying.add(message.keys, deep=message.deep, is_wanted=is_wanted)
        # The connection is not held back meanwhile: it may take seconds, and the peer must hear that we live.
        if answer is None:
            self._fault(frame, Status.BUSY, "too many blocks are being verified")
        else:
            answer.add_done_callback(lambda future: self._verified(frame, future))

    def _verified(self, frame: Frame, answer: asyncio.Future[list[BlockState]]) -> None:
        if answer.cancelled():
            self._fault(frame, Status.DEADLINE, "too late")
        elif (error := answer.exception()) is not None:
            log.error("blocks not verified", exc_info=error)
            self._fault(frame, Status.FAILED, f"not verified: {error}")
        else:
            self._reply(frame, encode(BlocksVerified(cast("list[tuple[int, int, int]]", answer.result()))))
        self.flush()

    def _reply_from_pool(self, frame: Frame, work: Callable[..., Message], args: tuple[object, ...]) -> None:
        def done(future: Future[Message]) -> None:
            self._pooled_bytes -= _POOLED_READ_BYTES
            self._reply(frame, encode(future.result()))
            self._after_pool()

        self._pooled_bytes += _POOLED_READ_BYTES
        self._in_pool(work, args, done)

    def _in_pool(
        self, work: Callable[..., T], args: tuple[object, ...], done: Callable[[Future[T]], None]
    ) -> None:
        loop = self._service.loop

        def tell(future: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done, future)

        self._service.pool.submit(work, *args).add_done_callback(tell)

    def _after_pool(self) -> None:
        self.flush()
        self.work()

    def _write(self, frame: Frame, op: Op, deadline: float) -> None:
        message = decode_write(op, frame.header, frame.payload)
        nbytes = len(frame.payload) + len(frame.header) + _WRITE_OVERHEAD_BYTES
        self._queued_bytes += nbytes
        self._service.queued_bytes += nbytes
        self._writes.append(
            Write(
                op,
                message,
                frame.payload,
                deadline=deadline,
                origin=self,
                request_id=frame.request_id,
                nbytes=nbytes,
            )
        )

    # -- replies ------------------------------------------------------------------------------------------

    def answer_write(self, write: Write) -> None:
        """Queue the reply to a write; `flush` sends it."""
        self._queued_bytes -= write.nbytes
        self._out.append(
            encode_frame(write.request_id, write.op, write.status, 0, encode(write.answer), 0),
        )

    def _reply(self, frame: Frame, header: bytes) -> None:
        self._out.append(encode_frame(frame.request_id, frame.op, Status.OK, 0, header, 0))
        self._out_bytes += len(header)

    def _fault(self, frame: Frame, status: Status, message: str) -> None:
        self._out.append(encode_frame(frame.request_id, frame.op, status, 0, encode(Fault(message)), 0))

    def flush(self) -> None:
        """Send what is queued with one write."""
        out = self._out
        if out:
            self._out, self._out_bytes = [], 0
            if not self._transport.is_closing():
                self._transport.writelines(out)

    def stop(self) -> None:
        """No further requests; replies still go out."""
        self._backlog.clear()
        if not self._transport.is_closing() and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def close(self) -> None:
        """Close when the replies are out."""
        self._transport.close()
