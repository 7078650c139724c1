"""The load generator against small servers that answer by rote: what it counts and what it refuses."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conformance.bench.load import LoadFailed, LoadPlan, run_in_process
from conformance.bench.process_stats import read_cpu_s, read_stats


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that reads one request with its body and sends `answer`, again and again; its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                length = 0
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    if line.startswith(b"Content-Length:"):
                        length = int(line[15:])
                self.rfile.read(length)
                for start in range(0, len(answer), 50_000):
                    self.wfile.write(answer[start : start + 50_000])

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def plan(port: int, method: str, object_bytes: int) -> LoadPlan:
    return LoadPlan(
        host="127.0.0.1",
        port=port,
        method=method,
        bucket="b",
        key_count=3,
        object_bytes=object_bytes,
        clients=2,
        seconds=30.0,
        operations_max=7,
    )


@pytest.mark.parametrize("object_bytes", [0, 1, 3_000_000])
def test_counts_what_it_got(object_bytes: int) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {object_bytes}\r\n\r\n".encode()
    with answering(head + bytes(object_bytes)) as port:
        result = run_in_process(plan(port, "GET", object_bytes))
    assert result.operations == len(result.latencies_us) == 7
    assert result.latencies_us == sorted(result.latencies_us)
    assert result.per_second > 0


@pytest.mark.parametrize("object_bytes", [1, 3_000_000])
def test_sends_whole_bodies(object_bytes: int) -> None:
    with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n") as port:
        assert run_in_process(plan(port, "PUT", object_bytes)).operations == 7


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n", "503 Slow Down"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd", "4 bytes instead of 5"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcdef", "more came back"),
    ],
)
def test_a_wrong_answer_ends_the_measurement(answer: bytes, complaint: str) -> None:
    with answering(answer) as port, pytest.raises(LoadFailed, match=complaint):
        run_in_process(plan(port, "GET", 5))


def test_the_secret_is_not_shown() -> None:
    shown = repr(LoadPlan("h", 1, "GET", "b", 1, 1, 1, 1.0, access_key="AK", secret_key="hush"))
    assert "AK" in shown
    assert "hush" not in shown


def test_stats_of_a_process() -> None:
    import os

    stats = read_stats(os.getpid())
    assert 0 < stats.share_bytes <= stats.rss_bytes <= stats.peak_bytes
    assert read_cpu_s(os.getpid()) >= stats.cpu_s
