"""The load generator: one process, raw sockets, one epoll loop, one request in flight for each client.

It costs some 10 µs of CPU a request, about what wrk does, and tells its own share, so that what is measured is the
server. Run as ``python -m conformance.bench.generator``: a `Plan` as JSON on stdin, `Message`s on stdout, a line each.
Every answer's status, length and content are judged. What is wrong is counted and told; nothing is retried.

Connections are made, and TLS agreed on, outside the loop: while that lasts the other clients wait, which a server
that keeps its connections never sees.
"""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from conformance.bench.answer import Answer, AnswerBroken
from conformance.bench.contents import Contents
from conformance.bench.judgement import Judge, Request, prepare
from conformance.bench.plan import (
    Broken,
    Captured,
    Failure,
    Finished,
    Message,
    Outcome,
    Plan,
    Progress,
    Sample,
)

RECEIVE_BYTES = 1 << 20
LOOK_EVERY_S = 0.2
"""How often progress is told, and clients are looked for that got no answer or lost their connection."""
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
REASONS_MAX = 200
"""Different reasons that are kept; what else fails is counted under the last of them."""


class CannotBegin(Exception):
    """The endpoint takes no connection."""


class FailedEarly(Exception):
    """One operation failed, and the plan says that this ends it."""


class _Client:
    """One connection and the request on it."""

    __slots__ = ("answer", "began", "judge", "number", "request", "rest", "sock", "waits")

    def __init__(self, contents: Contents) -> None:
        self.sock: socket.socket | None = None
        self.answer = Answer()
        self.judge = Judge(contents)
        self.request: Request | None = None
        self.number = 0
        self.began = 0.0
        self.rest: list[memoryview] = []
        """What of the request is not sent yet."""
        self.waits = False
        """It lost its connection and goes on at the next look."""


class Generator:
    """Drives all clients of a plan. `requests` are the plan's operations, in their order."""

    def __init__(
        self, plan: Plan, requests: list[Request], contents: Contents, tell: Callable[[Progress], None]
    ) -> None:
        self._plan = plan
        self._requests = requests
        self._tell = tell
        self._tls = ssl.create_default_context() if plan.endpoint.tls else None
        self._epoll = select.epoll()
        self._clients = [_Client(contents) for _ in range(plan.clients)]
        self._by_descriptor: dict[int, _Client] = {}
        self._view = memoryview(bytearray(RECEIVE_BYTES))
        self._numbers = self._in_order()
        self._samples: list[tuple[Request, float, float]] = []
        self._failures = Failures()
        self._captured: list[Captured] = []
        self._in_flight = 0
        self._began = 0.0

    def run(self) -> Outcome:
        """Raises CannotBegin, and FailedEarly when the plan asks for it."""
        for client in self._clients:
            try:
                self._connect(client)
            except OSError as error:
                raise CannotBegin(f"{self._plan.endpoint.url} takes no connection: {_words(error)}") from None
        cpu_began = time.process_time()
        self._began = time.perf_counter()
        for client in self._clients:
            self._send_next(client)
        self._loop()
        seconds = time.perf_counter() - self._began
        cpu_s = time.process_time() - cpu_began
        for client in self._clients:
            self._disconnect(client)
        self._epoll.close()
        kinds, samples = self._told_samples()
        return Outcome(seconds, cpu_s, kinds, samples, self._failures.told(), self._captured)

    def _loop(self) -> None:
        look_at = self._began + LOOK_EVERY_S
        while self._in_flight:
            for descriptor, event in self._epoll.poll(LOOK_EVERY_S):
                client = self._by_descriptor.get(descriptor)
                if client is None:  # given up by an earlier one of these events
                    continue
                try:
                    if event & select.EPOLLOUT:
                        self._send_rest(client)
                    if event & ~select.EPOLLOUT:
                        self._receive(client)
                except (OSError, AnswerBroken) as error:
                    self._fail(client, _words(error))
            now = time.perf_counter()
            if now >= look_at:
                look_at = now + LOOK_EVERY_S
                self._look(now)

    def _look(self, now: float) -> None:
        for client in self._clients:
            if client.waits:
                client.waits = False
                self._in_flight -= 1
                self._send_next(client)
            elif client.request is not None and now - client.began > self._plan.answer_wait_s:
                self._fail(client, f"no answer within {self._plan.answer_wait_s:g} s")
        of = 0 if self._plan.seconds else len(self._requests)
        self._tell(Progress(len(self._samples), self._failures.count, of, now - self._began))

    def _in_order(self) -> Iterator[int]:
        """The operations' places in the order in which they are sent."""
        plan, count = self._plan, len(self._requests)
        limit = plan.operations_max or (sys.maxsize if plan.seconds else count)
        sent = 0
        while count and sent < limit:
            if plan.seconds and time.perf_counter() - self._began >= plan.seconds:
                return
            yield sent % count
            sent += 1

    def _connect(self, client: _Client) -> None:
        endpoint = self._plan.endpoint
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout=self._plan.answer_wait_s)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=endpoint.host)
            sock.setblocking(False)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        except OSError:
            sock.close()
            raise
        client.sock = sock
        self._by_descriptor[sock.fileno()] = client

    def _disconnect(self, client: _Client) -> None:
        if client.sock is not None:
            del self._by_descriptor[client.sock.fileno()]
            client.sock.close()
            client.sock = None
        client.rest = []

    def _send_next(self, client: _Client) -> None:
        """Sends the next request, if there is one."""
        number = next(self._numbers, None)
        if number is None:
            return
        request = self._requests[number]
        client.request, client.number = request, number
        client.judge.begin(request)
        client.answer.begin(for_head=request.method == "HEAD")
        self._in_flight += 1
        client.began = time.perf_counter()
        try:
            if client.sock is None:
                self._connect(client)
            self._send(client, request)
        except OSError as error:
            self._fail(client, _words(error))

    def _send(self, client: _Client, request: Request) -> None:
        sock, head, body = client.sock, request.head, request.body
        assert sock is not None
        if body is None:
            client.rest = [head]
        elif self._tls is not None:
            client.rest = [head, body]
        else:
            sent = sock.sendmsg((head, body)) - len(head)
            if sent == len(body):
                return
            client.rest = [body[sent:]] if sent >= 0 else [head[sent:], body]
        self._push(client)
        if client.rest:
            self._epoll.modify(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _send_rest(self, client: _Client) -> None:
        """The socket takes bytes again."""
        self._push(client)
        if not client.rest and client.sock is not None:
            self._epoll.modify(client.sock.fileno(), select.EPOLLIN)

    @staticmethod
    def _push(client: _Client) -> None:
        """As much of the rest as the socket takes."""
        assert client.sock is not None
        rest = client.rest
        with contextlib.suppress(*WOULD_BLOCK):
            while rest:
                sent = client.sock.send(rest[0])
                if sent < len(rest[0]):
                    rest[0] = rest[0][sent:]
                else:
                    del rest[0]

    def _receive(self, client: _Client) -> None:
        """Takes what has come. With TLS that is at most one record, which fits; more of them wake us again."""
        assert client.sock is not None
        try:
            count = client.sock.recv_into(self._view)
        except WOULD_BLOCK:
            return
        if client.request is None:  # an end, or words without a question: the next request connects anew
            self._disconnect(client)
        elif not count:
            self._take_end(client)
        else:
            piece = client.answer.feed(self._view[:count])
            client.judge.feed(client.answer.status, piece)
            if client.answer.complete:
                self._complete(client)

    def _take_end(self, client: _Client) -> None:
        """The server closed the connection while a request was on it."""
        if client.answer.end():
            self._complete(client)
        elif client.answer.begun:
            self._fail(client, "the connection was cut within an answer")
        else:
            self._fail(client, "the connection was closed without an answer")

    def _complete(self, client: _Client) -> None:
        """The whole answer is there."""
        request, answer = client.request, client.answer
        assert request is not None
        finished = time.perf_counter()
        wrong = client.judge.verdict(answer.status)
        if client.rest:
            self._fail(client, wrong or "answered before the request's end")
            return
        if wrong:
            self._note_failure(request, wrong)
        else:
            self._samples.append((request, finished, client.began))
            if request.captures:
                value = answer.header(request.captures).decode("latin-1")
                self._captured.append(Captured(client.number, value))
        client.request = None
        self._in_flight -= 1
        if answer.closes:
            self._disconnect(client)
        self._send_next(client)

    def _fail(self, client: _Client, reason: str) -> None:
        """The request on this connection, and the connection with it. The client goes on after a moment, so that an
        endpoint that is gone does not use up all operations at once."""
        assert client.request is not None
        self._note_failure(client.request, reason)
        client.request = None
        self._disconnect(client)
        client.waits = True  # and stays in flight until then

    def _note_failure(self, request: Request, reason: str) -> None:
        self._failures.add(request, reason)
        if self._plan.stop_at_failure:
            raise FailedEarly(f"{request.method} {request.path}: {reason}")

    def _told_samples(self) -> tuple[list[str], list[Sample]]:
        kinds = list(dict.fromkeys(request.kind for request in self._requests))
        numbers = {kind: number for number, kind in enumerate(kinds)}
        return kinds, [
            Sample(
                numbers[request.kind],
                round((finished - self._began) * 1e6),
                round((finished - began) * 1e6),
                request.sent_bytes,
                request.received_bytes,
            )
            for request, finished, began in self._samples
        ]


class Failures:
    """Failures by kind and reason."""

    def __init__(self) -> None:
        self.count = 0
        self._by_reason: dict[tuple[str, str], Failure] = {}

    def add(self, request: Request, reason: str) -> None:
        self.count += 1
        key = (request.kind, reason)
        if key not in self._by_reason and len(self._by_reason) >= REASONS_MAX:
            key = (request.kind, "other reasons")
        before = self._by_reason.get(key)
        if before is None:
            self._by_reason[key] = Failure(request.kind, request.path, key[1])
        else:
            self._by_reason[key] = msgspec.structs.replace(before, count=before.count + 1)

    def told(self) -> list[Failure]:
        return list(self._by_reason.values())


def _words(error: Exception) -> str:
    if isinstance(error, AnswerBroken):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"{type(error).__name__} {error}".strip()


def carry_out(plan: Plan, tell: Callable[[Progress], None] = lambda _: None) -> Outcome:
    """In this process. Raises CannotBegin and FailedEarly."""
    longest = max((operation.start + operation.size for operation in plan.operations), default=0)
    contents = Contents(plan.seed, longest)
    requests = prepare(plan, contents, datetime.now(UTC))
    return Generator(plan, requests, contents, tell).run()


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    gc.freeze()  # what is there already need not be looked through while the clock runs
    try:
        message: Message = Finished(carry_out(plan, _tell))
    except (CannotBegin, FailedEarly) as error:
        message = Broken(str(error))
    except KeyboardInterrupt:  # the terminal's, which reaches who asked for the plan as well
        sys.exit(130)
    _tell(message)


def _tell(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
