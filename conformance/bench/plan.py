"""What the load generator is told to send, and what it tells of it: values that travel between two processes."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

ANY_CONTENT = -1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. Without an access key they go unsigned (the floor)."""

    host: str
    port: int
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    tls: bool = False

    @property
    def authority(self) -> str:
        """The Host header; a port that the scheme implies is left out, as clients do."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


class Operation(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One request and the answer that is right.

    `kind` groups figures. `content` is a number of conformance.bench.contents, `start` and `size` the part of it that
    is sent (PUT) or must come back (GET); `text` is a body of its own. `marks` says how often a piece of text
    must stand in the answer's body; `captures` names a header of the answer that is wanted.
    """

    kind: str
    method: str
    path: str
    size: int = 0
    content: int = ANY_CONTENT
    start: int = 0
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    text: str = ""
    status: int = 200
    marks: dict[str, int] = {}
    captures: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """`operations` in their order by `clients` connections: each once, or again and again for `seconds` when that is
    not 0. One request is in flight on a connection, and nothing is retried."""

    endpoint: Endpoint
    operations: list[Operation]
    clients: int = 1
    seconds: float = 0.0
    operations_max: int = 0
    """Stop after so many even before `seconds` are over; 0: no such limit."""
    seed: int = 0
    answer_wait_s: float = 60.0
    stop_at_failure: bool = False
    """For measurements that mean nothing after one."""


class Failure(msgspec.Struct, frozen=True):
    kind: str
    path: str
    reason: str
    count: int = 1
    """So many failed for this reason; `path` is the first of them."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One operation that succeeded: `kind` is an index into the outcome's kinds."""

    kind: int
    finished_us: int
    """Since the plan's begin."""
    latency_us: int
    """From the first byte sent until the whole answer was there and compared."""
    sent_bytes: int
    received_bytes: int
    """Of bodies."""


class Captured(msgspec.Struct, frozen=True, array_like=True):
    operation: int
    """Its place in the plan's operations."""
    value: str


class Outcome(msgspec.Struct, frozen=True):
    """What came of a plan."""

    seconds: float
    generator_cpu_s: float
    kinds: list[str]
    samples: list[Sample]
    """In the order in which they finished."""
    failures: list[Failure]
    captured: list[Captured] = []

    @property
    def failed(self) -> int:
        return sum(failure.count for failure in self.failures)


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a generator has come."""

    done: int
    failed: int
    of: int
    """Operations of the plan; 0 when it goes by time."""
    seconds: float


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    outcome: Outcome


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """The plan could not be carried out."""

    reason: str


Message = Progress | Finished | Broken
"""One JSON line each, from the generator's process."""
