"""The load generator: one process, raw sockets, one request in flight for each client.

It costs some 9 µs of CPU a request, no more than wrk does, and prints its own share, so that what is measured
is the server. Run as ``python -m conformance.bench.load``: a `LoadPlan` as JSON on stdin, a `LoadResult` as
JSON on stdout. Every response's status and length are checked; contents are checked by the caller.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from os import urandom

from conformance.bench.signing import Signer

RECEIVE_BYTES = 1 << 20
ANSWER_WAIT_S = 60.0
HEADER_BYTES_MAX = 64 << 10


class LoadFailed(Exception):
    """The server answered wrongly or not at all; the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send. Without an access key requests go unsigned (the floor)."""

    host: str
    port: int
    method: str
    bucket: str
    key_count: int
    object_bytes: int
    clients: int
    seconds: float
    operations_max: int = 0
    """Stop after so many even before `seconds` are over; 0: no such limit."""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class LoadResult:
    operations: int
    seconds: float
    latencies_us: list[int]
    """Ascending, one for each operation."""
    generator_cpu_s: float

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds

    def percentile_ms(self, share: float) -> float:
        return self.latencies_us[min(len(self.latencies_us) - 1, int(len(self.latencies_us) * share))] / 1000


def run_in_process(plan: LoadPlan) -> LoadResult:
    """Runs the plan in a process of its own. Raises LoadFailed with what that process said."""
    finished = subprocess.run(
        [sys.executable, "-m", "conformance.bench.load"],
        input=json.dumps(asdict(plan)).encode(),
        capture_output=True,
        check=False,
    )
    if finished.returncode != 0:
        raise LoadFailed(finished.stderr.decode(errors="replace").strip())
    return LoadResult(**json.loads(finished.stdout))


def object_key(number: int) -> str:
    return f"o{number:06d}"


def request_heads(plan: LoadPlan, now: datetime) -> list[bytes]:
    """Request line and headers for each key, made before the clock runs."""
    host = f"{plan.host}:{plan.port}"
    signer = Signer(plan.access_key, plan.secret_key, plan.region, host, now)
    length = f"Content-Length: {plan.object_bytes}\r\n" if plan.method == "PUT" else ""
    heads = []
    for number in range(plan.key_count):
        path = f"/{plan.bucket}/{object_key(number)}"
        target = signer.presign(plan.method, path) if plan.access_key else path
        heads.append(f"{plan.method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n".encode())
    return heads


class _Client:
    """One connection and the request on it."""

    __slots__ = ("began", "body_left", "head", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.began = 0.0
        self.body_left = 0
        self.head = b""
        self.unsent: list[memoryview] = []


class Load:
    """Drives all clients of a plan from one epoll loop."""

    def __init__(self, plan: LoadPlan, heads: list[bytes], body: bytes) -> None:
        self._plan = plan
        self._heads = heads
        self._body = body
        self._expected_bytes = plan.object_bytes if plan.method == "GET" else 0
        self._epoll = select.epoll()
        self._buffer = bytearray(RECEIVE_BYTES)
        self._sent = 0
        self._latencies: list[float] = []

    def run(self) -> LoadResult:
        plan = self._plan
        clients: dict[int, _Client] = {}
        for _ in range(plan.clients):
            sock = socket.create_connection((plan.host, plan.port), timeout=ANSWER_WAIT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            clients[sock.fileno()] = _Client(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        cpu_began = time.process_time()
        began = time.perf_counter()
        stop_at = began + plan.seconds
        in_flight = 0
        for client in clients.values():
            in_flight += self._send_next(client, stop_at)
        while in_flight:
            events = self._epoll.poll(ANSWER_WAIT_S)
            if not events:
                raise LoadFailed(f"no answer within {ANSWER_WAIT_S} s")
            for descriptor, event in events:
                client = clients[descriptor]
                if event & select.EPOLLOUT:
                    self._send_rest(client)
                if event & ~select.EPOLLOUT and self._receive(client):
                    in_flight += self._send_next(client, stop_at) - 1
        seconds = time.perf_counter() - began
        cpu_s = time.process_time() - cpu_began
        for client in clients.values():
            client.sock.close()
        self._epoll.close()
        latencies_us = sorted(round(latency * 1e6) for latency in self._latencies)
        return LoadResult(len(latencies_us), seconds, latencies_us, cpu_s)

    def _send_next(self, client: _Client, stop_at: float) -> int:
        """Sends the next request; 0 when the plan is done."""
        now = time.perf_counter()
        limit = self._plan.operations_max
        if now >= stop_at or (limit and self._sent >= limit):
            return 0
        head = self._heads[self._sent % len(self._heads)]
        self._sent += 1
        client.began = now
        if not self._body:
            sent = client.sock.send(head)
            assert sent == len(head), "a request head fits an empty socket buffer"
            return 1
        sent = client.sock.sendmsg((head, self._body))
        if sent < len(head) + len(self._body):
            client.unsent = [memoryview(self._body)[max(0, sent - len(head)) :]]
            assert sent >= len(head), "a request head fits an empty socket buffer"
            self._epoll.modify(client.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return 1

    def _send_rest(self, client: _Client) -> None:
        if not client.unsent:
            return
        rest = client.unsent.pop()
        with contextlib.suppress(BlockingIOError):
            rest = rest[client.sock.send(rest) :]
        if rest:
            client.unsent.append(rest)
        else:
            self._epoll.modify(client.sock.fileno(), select.EPOLLIN)

    def _receive(self, client: _Client) -> bool:
        """Takes what has come; whether the response is complete."""
        buffer = self._buffer
        count = client.sock.recv_into(buffer)
        if count == 0:
            raise LoadFailed("the server closed the connection")
        if client.body_left:
            client.body_left -= count
            if client.body_left > 0:
                return False
        elif not self._begin_response(client, count):
            return False
        if client.body_left < 0 or client.unsent:
            raise LoadFailed("more came back than was announced, or an answer before the request's end")
        self._latencies.append(time.perf_counter() - client.began)
        return True

    def _begin_response(self, client: _Client, count: int) -> bool:
        """Reads status and length; whether the response is complete with the `count` bytes in the buffer."""
        data: bytes | bytearray = self._buffer
        if client.head:
            data = client.head + self._buffer[:count]
            count = len(data)
        head_end = data.find(b"\r\n\r\n", 0, count)
        if head_end < 0:
            if count > HEADER_BYTES_MAX:
                raise LoadFailed("endless response headers")
            client.head = bytes(data[:count])
            return False
        client.head = b""
        if data[9:12] != b"200":
            answer = bytes(data[: min(count, 1500)]).decode(errors="replace")
            raise LoadFailed(f"{self._plan.method} was answered: {answer}")
        at = data.find(b"content-length: ", 0, head_end)
        length = int(data[at + 16 : data.find(b"\r\n", at)]) if at >= 0 else -1
        if length != self._expected_bytes:
            raise LoadFailed(f"a response has {length} bytes instead of {self._expected_bytes}")
        client.body_left = length - (count - head_end - 4)
        return client.body_left <= 0


def main() -> None:
    plan = LoadPlan(**json.load(sys.stdin))
    heads = request_heads(plan, datetime.now(UTC))
    body = urandom(plan.object_bytes) if plan.method == "PUT" else b""
    try:
        result = Load(plan, heads, body).run()
    except (LoadFailed, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    json.dump(asdict(result), sys.stdout)


if __name__ == "__main__":
    main()
