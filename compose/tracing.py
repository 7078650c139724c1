"""OpenTelemetry, when a setting names where traces go: spans of requests and of what nodes did for them.

Its packages are an extra (``pip install 'trivet[tracing]'``) and are loaded only then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cluster.tracing import pack_context, unpack_context
from cluster.version import VERSION
from compose.refusal import StartRefused

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

SERVICE = "trivet"
SEND_EVERY_MS = 1000
SEND_WAIT_S = 2.0


@contextmanager
def traces_to(url: str, process: str) -> Iterator[Tracing | None]:
    """What makes this process's spans, sent to the OTLP endpoint `url` in the background; None without a url.

    Spans that the endpoint does not take in time are dropped: requests never wait for it. Those that are left are
    sent at the end. Raises StartRefused when the packages are not installed.
    """
    if not url:
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise StartRefused(
            f"--trace-url={url} needs the packages of OpenTelemetry ({error.name} is missing): "
            "pip install 'trivet[tracing]', or leave the setting away"
        ) from None
    resource = Resource.create(
        {
            "service.name": SERVICE,
            "service.instance.id": process,
            "service.version": VERSION,
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    endpoint = f"{url.rstrip('/')}/v1/traces"
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_WAIT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_EVERY_MS))
    try:
        yield Tracing(provider)
    finally:
        provider.shutdown()


class Tracing:
    """The spans of one process; RequestTracer of a front and NodeTracer of a node."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer: Tracer = provider.get_tracer(SERVICE)

    def begin(self, headers: list[tuple[bytes, bytes]]) -> _RequestSpan:
        """As RequestTracer has it."""
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
        parent = TraceContextTextMapPropagator().extract(carrier)
        span = self._tracer.start_span("request", context=parent, kind=trace.SpanKind.SERVER)
        return _RequestSpan(span)

    def context(self) -> bytes:
        """As TraceContext has it."""
        from opentelemetry import trace

        now = trace.get_current_span().get_span_context()
        return pack_context(now.trace_id, now.span_id, now.trace_flags) if now.is_valid else b""

    def now_ns(self) -> int:
        """As NodeTracer has it."""
        return time.time_ns()

    def done(self, context: bytes, name: str, start_ns: int, status: str, nbytes: int) -> None:
        """As NodeTracer has it."""
        from opentelemetry import trace

        numbers = unpack_context(context)
        if numbers is None:
            return
        trace_id, span_id, flags = numbers
        asker = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(trace.NonRecordingSpan(asker)),
            kind=trace.SpanKind.SERVER,
            attributes={"trivet.status": status, "trivet.bytes": nbytes},
            start_time=start_ns,
        )
        if status != "OK":
            span.set_status(trace.StatusCode.ERROR, status)
        span.end()


class _RequestSpan:
    """Current in its task, and in the tasks that this one starts, until it ends."""

    def __init__(self, span: Span) -> None:
        from opentelemetry import context, trace

        self._span = span
        self._token = context.attach(trace.set_span_in_context(span))

    def end(self, operation: str, status: int, facts: dict[str, str | int]) -> None:
        """As RequestSpan has it."""
        from opentelemetry import context, trace

        self._span.update_name(operation)
        self._span.set_attributes({"http.response.status_code": status, **facts})
        if status >= 500:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
        context.detach(self._token)
