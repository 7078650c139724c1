"""Requests made ready to be sent, and the judgement of what comes back."""

from __future__ import annotations

from datetime import datetime

from conformance.bench.contents import Contents
from conformance.bench.plan import ANY_CONTENT, Operation, Plan
from conformance.bench.signing import Signer

GATHER_BYTES_MAX = 64 << 20
_QUOTE_BYTES = 2000


class Request:
    """One operation as bytes, made before the clock runs."""

    __slots__ = (
        "body",
        "captures",
        "expected_at",
        "head",
        "kind",
        "marks",
        "method",
        "path",
        "size",
        "status",
    )

    def __init__(
        self, operation: Operation, contents: Contents, signer: Signer | None, authority: str
    ) -> None:
        self.kind = operation.kind
        self.method = operation.method
        self.path = operation.path
        self.status = operation.status
        self.captures = operation.captures.encode()
        self.marks = [(mark.encode(), count) for mark, count in operation.marks.items()]
        self.body = _body(operation, contents)
        self.expected_at = -1
        """Where in the contents' text the answer's body stands; -1 when it has none that is known."""
        self.size = operation.size
        if operation.method == "GET" and operation.content != ANY_CONTENT:
            self.expected_at = contents.offset(operation.content) + operation.start
        self.head = memoryview(_head(operation, self.body, signer, authority))

    @property
    def sent_bytes(self) -> int:
        return 0 if self.body is None else len(self.body)

    @property
    def received_bytes(self) -> int:
        return self.size if self.method == "GET" else 0


def prepare(plan: Plan, contents: Contents, now: datetime) -> list[Request]:
    """The plan's operations, signed for a day from `now` on."""
    endpoint = plan.endpoint
    signer = None
    if endpoint.access_key:
        signer = Signer(endpoint.access_key, endpoint.secret_key, endpoint.region, endpoint.authority, now)
    return [Request(operation, contents, signer, endpoint.authority) for operation in plan.operations]


def _body(operation: Operation, contents: Contents) -> memoryview | None:
    if operation.text:
        return memoryview(operation.text.encode())
    if operation.method == "PUT" and operation.content != ANY_CONTENT:
        return contents.slice(operation.content, operation.start, operation.size)
    return None


def _head(operation: Operation, body: memoryview | None, signer: Signer | None, authority: str) -> bytes:
    target = operation.path
    if signer is not None:
        target = signer.presign(operation.method, operation.path, operation.query, operation.headers)
    lines = [f"{operation.method} {target} HTTP/1.1", f"Host: {authority}"]
    if operation.method in ("PUT", "POST"):
        lines.append(f"Content-Length: {0 if body is None else len(body)}")
    lines += [f"{name}: {value}" for name, value in operation.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Judge:
    """Judges one answer at a time while it comes in: `begin`, `feed`, `verdict`. Contents are compared with what was
    sent, byte for byte, without being kept."""

    __slots__ = ("_contents", "_gathered", "_received", "_request", "_wrong_at")

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._gathered = bytearray()
        self._received = 0
        self._wrong_at = -1

    def begin(self, request: Request) -> None:
        self._request = request
        self._received = 0
        self._wrong_at = -1
        if self._gathered:
            self._gathered = bytearray()

    def feed(self, status: int, piece: memoryview | bytes) -> None:
        """A piece of the body of an answer with this status."""
        request = self._request
        if status == request.status and request.expected_at >= 0:
            in_place = self._contents.text.startswith(piece, request.expected_at + self._received)
            if not in_place and self._wrong_at < 0:
                self._wrong_at = self._received
        elif piece and len(self._gathered) < GATHER_BYTES_MAX:
            self._gathered += piece
        self._received += len(piece)

    def verdict(self, status: int) -> str:
        """What is wrong with the whole answer; empty when nothing is."""
        request = self._request
        if status != request.status:
            return f"answered {status}{_code(self._gathered)}"
        if request.expected_at >= 0:
            if self._received != request.size:
                return "content has another length"
            return "content differs" if self._wrong_at >= 0 else ""
        for mark, count in request.marks:
            if self._gathered.count(mark) != count:
                return f"the answer has another number of {mark.decode()} than was stored"
        return ""


def _code(body: bytearray) -> str:
    """S3's error code out of an XML body."""
    text = bytes(body[:_QUOTE_BYTES])
    _, found, rest = text.partition(b"<Code>")
    return f" {rest.partition(b'</Code>')[0].decode(errors='replace')}" if found else ""
