"""One pipelined connection to a node: many calls in flight, replies in any order, no task a call (S25).

The front's hottest path: a call costs one future, one dictionary entry and one frame prefix; all frames of
a turn of the event loop leave in one write, and one timer a link watches over deadlines, hedge delays,
stalls (S10) and silence. A caller that needs replies from several nodes simply awaits the futures in turn.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec

from cluster import wire
from cluster.connection import Connection, fail_quietly
from cluster.errors import CallLate, DeadlineExceeded, LinkBusy, LinkDown, LinkError, RemoteFault
from cluster.handshake import ClientHandshake, HandshakeFailed, Peer
from cluster.latency import Latency
from cluster.tracing import TraceContext, no_trace
from cluster.trust import NodeTrust

log = logging.getLogger(__name__)

_OK: Final = int(wire.Status.OK)
_PROBE_OP: Final = int(wire.Op.STATUS)
_DISK_OPS: Final = frozenset(
    map(
        int,
        (
            wire.Op.PUT_BLOCK,
            wire.Op.SYNC,
            wire.Op.DELETE_BLOCKS,
            wire.Op.FENCE,
            wire.Op.APPEND_LOG,
            wire.Op.TRIM_LOG,
        ),
    )
)
_PROBE_HEADER: Final = wire.encode(wire.StatusRequest())
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Limits of a link; times in seconds.

    `outstanding_bytes_max`: payload bytes sent and not answered; above it calls are LinkBusy (S10).
    `stall_factor`, `stall_s_min`: a link with calls outstanding and no reply for that multiple of its
    recent slow latency, at least the minimum, is stalled. `probe_s`: how often the node is asked for its
    status, busy or idle; `silence_s_max`: silence after which the connection is cut. Together they bound
    how long a frozen node goes unnoticed.
    """

    outstanding_bytes_max: int = 48 << 20
    connect_s_max: float = 3.0
    backoff_s_min: float = 0.05
    backoff_s_max: float = 1.0
    sweep_s: float = 0.005
    stall_factor: float = 2.5
    stall_s_min: float = 0.012
    probe_s: float = 0.4
    silence_s_max: float = 2.0


class _Call(msgspec.Struct, gc=False):
    """A call that awaits its reply. Times on the link's clock. (A Struct: four times cheaper than a tuple.)"""

    future: Any  # asyncio.Future[wire.Frame]
    sent_s: float
    deadline_s: float
    late_s: float
    payload_bytes: int
    op: int


class Link:
    """The connection of this process to one node; it connects and reconnects by itself, with a growing pause.

    Own it by `async with`, or `start` and `close`. Health and steward traffic use Links of their own (S25).
    `up`: calls can be made. `tried`: the first attempt to connect is over, one way or the other.
    `incarnation`: the node's, as of the handshake (S1 compares those in replies). `version`: of the protocol, too.
    `trust` hears the outcome of each call; its breakers advise, and a call is made whatever they say.
    `on_status` hears of each new status of the node. Every future given out is resolved at last, and one
    whose error nobody reads stays silent.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        secret: bytes,
        cluster_id: bytes,
        node_id: bytes,
        role: wire.Role,
        settings: LinkSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        trace_context: TraceContext = no_trace,
    ) -> None:
        self.address = address
        self.node_id = node_id
        self.up = False
        self.tried = False
        self.incarnation = 0
        self.version = 0  # of the protocol, as agreed with the node; 0 before there was a connection
        self.outstanding_bytes = 0
        self.failure = "not connected yet"  # why it is not up
        self.trace_context: Final = trace_context  # for the messages of those who call
        self._noted = ""  # the failure last logged
        self.trust: Final = NodeTrust(clock)
        self.breaker: Final = self.trust.breaker
        self.write_breaker: Final = self.trust.write_breaker
        self.on_status: Callable[[], None] | None = None
        self.round_trip_s = 0.0  # of probes, near the shortest lately: the distance, whatever the node does
        self.latency: Final = [Latency() for _ in range(max(wire.Op) + 1)]  # by op
        self._new_handshake: Final[Callable[[], ClientHandshake]] = lambda: ClientHandshake(
            secret=secret, role=role, cluster_id=cluster_id, node_id=node_id
        )
        self._settings: Final = settings or LinkSettings()
        self._outstanding_max: Final = self._settings.outstanding_bytes_max
        self._clock: Final = clock
        self._connection: Connection | None = None
        self._calls: dict[int, _Call] = {}
        self._out: list[wire.Buffer] = []
        self._request_id = 0
        # Since when there was no reply, 0.0 while all is well; for reads and for writes, because a node may
        # serve the one and hang in the other.
        self._stalled_s = [0.0, 0.0]
        self._replied_s = [0.0, 0.0]  # last reply, likewise
        self._taught_s = [0.0, 0.0]  # calls sent before then were held up by a stall that is over
        self._heard_s = 0.0  # last frame of any kind
        self._timer: asyncio.TimerHandle | None = None
        self._idle = True  # the timer runs at the slow pace
        self._probing = False
        self._probe_s = 0.0  # when the last probe was sent
        self._keeper: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect; returns at once. `wait_up` waits for it."""
        self._loop = asyncio.get_running_loop()
        self._create_future = self._loop.create_future
        self._call_soon = self._loop.call_soon
        self._keeper = self._loop.create_task(self._keep(), name=f"link {self.address}")

    async def close(self) -> None:
        """Cut the connection and stop; calls in flight end in LinkDown. May be called twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])  # unlike a plain await it lets a cancellation of ours through
            if not keeper.cancelled():
                keeper.result()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def redirect(self, address: tuple[str, int]) -> None:
        """The node listens at `address` now: leave the old one, calls in flight end in LinkDown."""
        running = self._keeper is not None
        await self.close()
        self.address = address
        self.tried = False
        if running:
            await self.start()

    async def wait_up(self) -> None:
        """Returns when calls can be made; bound it with a timeout of your own."""
        while not self.up:
            await self._changed.wait()

    # -- calls -----------------------------------------------------------------------------------------------

    def call(
        self,
        op: int,
        header: bytes,
        payload: wire.Buffer | None,
        deadline_s: float,
        late_s: float = _NEVER,
    ) -> "asyncio.Future[wire.Frame]":
        """Send one request; the future gets the OK reply, whose `payload` belongs to the caller.

        Raises LinkDown or LinkBusy at once. The future fails with RemoteFault (the node said no), LinkDown,
        DeadlineExceeded after `deadline_s`, or CallLate after `late_s`: then the call goes on, and the
        error's `reply` is its new future. `payload` is not copied and must not change until the reply.
        Cancelling the future only means that nobody waits. To be called on the loop that `start` ran on.
        """
        connection = self._connection
        if connection is None:
            raise LinkDown(f"node {self.address}: {self.failure}")
        size = 0 if payload is None else len(payload)
        if self.outstanding_bytes + size > self._outstanding_max:
            raise LinkBusy(f"node {self.address}: {self.outstanding_bytes} bytes outstanding")
        self.outstanding_bytes += size
        request_id = self._request_id = (self._request_id + 1) & 0xFFFFFFFF
        now = self._clock()
        future = self._create_future()
        self._calls[request_id] = _Call(future, now, now + deadline_s, now + late_s, size, op)
        out = self._out
        if not out:
            self._call_soon(self._flush, connection)
            if self._idle:
                self._wake()
        out.append(wire.encode_frame(request_id, op, 0, int(deadline_s * 1000), header, size))
        if size:
            out.append(payload)  # type: ignore[arg-type]
        return future

    def flush(self) -> None:
        """Send at once what was called for, not with all that the loop has yet to call for in this turn."""
        if self._connection is not None:
            self._flush(self._connection)

    def is_stalled(self, *, writing: bool = False) -> bool:
        """True while calls are outstanding and no reply came for a multiple of the recent slow latency (S10).

        Judged apart for reads and for writes: a node whose disk hangs still serves what it has in memory.
        As of the last sweep, so it costs nothing to ask.
        """
        return self._stalled_s[writing] > 0.0

    def stalled_for_s(self, *, writing: bool = False) -> float:
        """How long a stalled link has been without a reply; 0.0 when it is not stalled."""
        since = self._stalled_s[writing]
        return self._clock() - since if since else 0.0

    def _flush(self, connection: Connection) -> None:
        out = self._out
        if connection is self._connection and out:
            self._out = []
            connection.transport.writelines(out)

    def _received(self, frames: list[wire.Frame]) -> None:
        now = self._heard_s = self._clock()
        calls = self._calls
        for frame in frames:
            call = calls.pop(frame.request_id, None)
            if call is None:
                continue  # its deadline has passed
            future = call.future
            op = call.op
            self.outstanding_bytes -= call.payload_bytes
            writing = op in _DISK_OPS
            if call.sent_s >= self._taught_s[writing]:
                self.latency[op].add(now - call.sent_s)
            self._replied_s[writing] = now
            if self._stalled_s[writing]:
                # All calls that one stall held up teach its length only once, or one freeze of a node would
                # make us patient with the next one.
                self._stalled_s[writing] = 0.0
                self._taught_s[writing] = now
            if frame.status == _OK:
                if self.breaker.strained or self.write_breaker.strained:
                    self.trust.succeeded(op)
                if not future.done():  # else nobody waits any more
                    future.set_result(frame)
            else:
                self.trust.refused(op, frame.status)
                fail_quietly(future, _fault(frame))

    # -- the timer -------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._idle = False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._settings.sweep_s, self._sweep)

    def _sweep(self) -> None:
        """Deadlines, hedge delays, stalls, probe, silence: looked at every few milliseconds while busy.

        After a pause of this process nobody is blamed for it: the loop reads sockets before it runs timers
        (asyncio does, libuv since 1.45).
        """
        now = self._clock()
        settings = self._settings
        self._expire(now)
        calls = self._calls
        self._judge(now)
        since = self._heard_s
        if calls:
            since = max(since, next(iter(calls.values())).sent_s)
        self._idle = not calls and now - self._heard_s > 10 * settings.sweep_s
        self._timer = self._loop.call_later(settings.probe_s if self._idle else settings.sweep_s, self._sweep)
        if calls and now - since > settings.silence_s_max:
            assert self._connection is not None
            self._connection.abort(ConnectionError(f"silent for {now - since:.1f} s"))
        elif not self._probing:
            # Who is slow with one kind of work is asked at once whether it is there at all.
            pause_s = 10 * settings.sweep_s if any(self._stalled_s) else 0.9 * settings.probe_s
            if now - self._probe_s >= pause_s:
                self._probe()

    def _judge(self, now: float) -> None:
        """Whether reads and writes are stalled, by the oldest call of each kind."""
        stalled_s = [0.0, 0.0]
        seen = 0
        for call in self._calls.values():
            writing = call.op in _DISK_OPS
            if seen & 1 << writing:
                continue
            seen |= 1 << writing
            since = max(call.sent_s, self._replied_s[writing])
            if now - since > self._patience_s(call.op):
                stalled_s[writing] = since
            if seen == 3:
                break
        since = max(self._probe_s, self._heard_s)
        if self._probing and now - since > self._patience_s(_PROBE_OP):
            # Not even a status: then nothing else will be answered either.
            stalled_s = [stalled or since for stalled in stalled_s]
        self._stalled_s = stalled_s

    def _patience_s(self, op: int) -> float:
        return max(self._settings.stall_factor * self.latency[op].high_s, self._settings.stall_s_min)

    def _probe(self) -> None:
        """Ask for a sign of life: answered by the node's loop even while its disk hangs."""
        with contextlib.suppress(LinkError):
            probe = self.call(_PROBE_OP, _PROBE_HEADER, None, self._settings.silence_s_max * 2)
            self._probing = True
            self._probe_s = self._clock()
            probe.add_done_callback(self._probed)

    def _probed(self, probe: "asyncio.Future[wire.Frame]") -> None:
        self._probing = False
        if probe.cancelled() or probe.exception() is not None:
            return
        took_s = self._clock() - self._probe_s
        # It sinks at once and rises slowly, from nothing: a node that is busy is not far away.
        self.round_trip_s = min(took_s, self.round_trip_s + (took_s - self.round_trip_s) * 0.1)
        for latency in self.latency:
            latency.fade()
        self.trust.heed(wire.decode_node_status(probe.result().header))
        if self.on_status is not None:
            self.on_status()

    def _expire(self, now: float) -> None:
        calls = self._calls
        newest_s = now - self._settings.sweep_s
        overdue = []
        for request_id, call in calls.items():  # oldest first
            if call.sent_s > newest_s:
                break
            if now >= call.deadline_s:
                overdue.append(request_id)
            elif now >= call.late_s and not call.future.done():
                future, call.future = call.future, self._create_future()
                call.late_s = _NEVER
                fail_quietly(future, CallLate(call.future))
        for request_id in overdue:
            call = calls.pop(request_id)
            self.outstanding_bytes -= call.payload_bytes
            self.breaker.failed()
            fail_quietly(
                call.future, DeadlineExceeded(f"node {self.address}: op {call.op} not answered in time")
            )

    # -- the connection --------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Connects for ever; the only place that sets `up`."""
        pause = self._settings.backoff_s_min
        while True:
            try:
                await self._connect_once()
                pause = self._settings.backoff_s_min
            except (OSError, HandshakeFailed) as error:
                self._note(str(error) or type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._settings.backoff_s_max)

    async def _connect_once(self) -> None:
        """Returns when an established connection was lost; raises when none could be established."""
        connection = Connection(self._new_handshake(), self._received, self._set_down)
        try:
            async with asyncio.timeout(self._settings.connect_s_max):
                host, port = self.address
                if host.startswith("/"):
                    await self._loop.create_unix_connection(lambda: connection, host)
                else:
                    await self._loop.create_connection(lambda: connection, host, port)
                peer = await connection.established
            self._set_up(connection, peer)
            self._note(await connection.lost)
        finally:
            connection.abort()

    def _set_up(self, connection: Connection, peer: Peer) -> None:
        log.info("node %s is connected, incarnation %x", self.address, peer.incarnation)
        self.incarnation = peer.incarnation
        self.version = peer.version
        self._connection = connection
        self._heard_s = self._clock()
        self._replied_s = [self._heard_s, self._heard_s]
        self.up = self.tried = True
        self.failure = self._noted = ""
        self.breaker.connected()
        self._wake()
        self._probe()
        self._changed.set()
        self._changed.clear()

    def _set_down(self, connection: Connection, why: str) -> None:
        """Fail what is in flight, in the very callback that learns of the loss."""
        if connection is not self._connection:
            return
        self._connection = None
        self.up = False
        self.failure = why
        self._stalled_s = [0.0, 0.0]
        self.breaker.lost()
        self._out = []
        self.outstanding_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            fail_quietly(call.future, LinkDown(f"node {self.address}: {why}"))

    def _note(self, failure: str) -> None:
        if failure != self._noted:
            log.warning("node %s is not reachable: %s", self.address, failure)
        self.failure = self._noted = failure
        self.tried = True


def _fault(frame: wire.Frame) -> RemoteFault:
    try:
        message = wire.decode_fault(frame.header).message
    except msgspec.DecodeError:
        message = "(unreadable)"
    return RemoteFault(frame.status, message)
