"""Traces over front and nodes, taken by a collector of the test's own; request ids in the log."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.system.conftest import Store, until

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


class Collector(ThreadingHTTPServer):
    """An OTLP endpoint that keeps what it is sent: (process, span) each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, body: bytes) -> None:
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {entry.key: entry.value.string_value for entry in resource_spans.resource.attributes}
            for scope_spans in resource_spans.scope_spans:
                self.spans += [(names["service.instance.id"], span) for span in scope_spans.spans]

    def of_trace(self, trace_id: str) -> list[tuple[str, Any]]:
        return [(process, span) for process, span in self.spans if span.trace_id.hex() == trace_id]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") is None and self.path == "/v1/traces":
            self.server.take(body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test's output is for the test."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _traced(client: Any, operation: str) -> None:
    """Have the client say that its requests belong to TRACE_ID."""

    def say(request: Any, **_: Any) -> None:
        request.headers["traceparent"] = TRACEPARENT

    client.meta.events.register(f"before-send.s3.{operation}", say)


def test_a_request_is_followed_from_the_front_to_the_nodes(
    new_store: Callable[..., Store], collector: Collector
) -> None:
    """Red when the context does not travel with the call, when a node answers without taking its span down, and when
    the front ignores the client's own trace."""
    store = new_store(("--trace-url", collector.url, "--log-format", "json", "--log-requests", "all"))
    store.start()
    client = store.client()
    client.create_bucket(Bucket="traced")
    for operation in ("PutObject", "GetObject"):
        _traced(client, operation)
    put = client.put_object(Bucket="traced", Key="a key", Body=b"x" * 5000)
    assert client.get_object(Bucket="traced", Key="a key")["Body"].read() == b"x" * 5000
    until(lambda: len(collector.of_trace(TRACE_ID)) >= 6, "the spans of both requests have come", 20.0)
    store.stop()

    spans = collector.of_trace(TRACE_ID)
    requests = {span.name: span for process, span in spans if process.startswith("front-")}
    assert set(requests) == {"PutObject", "GetObject"}
    assert all(span.parent_span_id.hex() == "00f067aa0ba902b7" for span in requests.values())
    children = [(process, span) for process, span in spans if process.startswith("node-")]
    writers = {p for p, s in children if s.parent_span_id == requests["PutObject"].span_id}
    readers = {p for p, s in children if s.parent_span_id == requests["GetObject"].span_id}
    assert writers == {"node-1", "node-2", "node-3"}
    assert readers
    assert {span.name for _, span in children} == {"PUT_BLOCK", "READ_BLOCK"}
    assert all(span.start_time_unix_nano < span.end_time_unix_nano for _, span in spans)
    _log_is_json_and_names_the_request(store, put["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"])


def _log_is_json_and_names_the_request(store: Store, request_id: str) -> None:
    events = [json.loads(line) for line in store.log().splitlines()]
    (line,) = (
        event
        for event in events
        if event["logger"] == "trivet.requests" and event.get("request_id") == request_id
    )
    facts = line["facts"]
    assert (facts["operation"], facts["status"], facts["path"]) == ("PutObject", 200, "/traced/a%20key")
    assert (facts["bytes_in"], facts["client"]) == (5000, "127.0.0.1")
    assert line["process"].startswith("front-")
    assert 0 < facts["ms"] < 60_000
    assert store.secret_key not in store.log()


def test_an_endpoint_that_is_not_there_costs_no_request(new_store: Callable[..., Store]) -> None:
    """Red when a request waits for its spans to be sent."""
    store = new_store(("--trace-url", "http://127.0.0.1:9"))
    store.start()
    client = store.client()
    client.create_bucket(Bucket="untraced")
    client.put_object(Bucket="untraced", Key="k", Body=b"content")
    assert client.get_object(Bucket="untraced", Key="k")["Body"].read() == b"content"
    assert store.stop() == 0
