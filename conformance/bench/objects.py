"""A set of objects that a profile works on, and the operations on each of them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from conformance.bench.contents import sizes
from conformance.bench.plan import Operation
from conformance.bench.session import Options


@dataclass(frozen=True, slots=True)
class Objects:
    """`count` objects below a prefix. Object n has content `first_content` + n, and its size comes from the seed."""

    bucket: str
    prefix: str
    sizes: list[int]
    first_content: int = 0
    keys: list[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", [f"{self.prefix}{n:06d}" for n in range(len(self.sizes))])

    def put(self, n: int, kind: str = "PUT", captures: str = "") -> Operation:
        return Operation(kind, "PUT", self.path(n), self.sizes[n], self.first_content + n, captures=captures)

    def get(self, n: int, kind: str = "GET", query: dict[str, str] | None = None) -> Operation:
        """The whole object, which must be what `put` stored."""
        return Operation(kind, "GET", self.path(n), self.sizes[n], self.first_content + n, query=query or {})

    def get_range(self, n: int, start: int, size: int) -> Operation:
        headers = {"Range": f"bytes={start}-{start + size - 1}"}
        content = self.first_content + n
        return Operation("GET range", "GET", self.path(n), size, content, start, headers=headers, status=206)

    def head(self, n: int) -> Operation:
        return Operation("HEAD", "HEAD", self.path(n))

    def delete(self, n: int, query: dict[str, str] | None = None, captures: str = "") -> Operation:
        return Operation("DELETE", "DELETE", self.path(n), query=query or {}, status=204, captures=captures)

    def gone(self, n: int) -> Operation:
        """A GET that must find nothing."""
        return Operation("GET of nothing", "GET", self.path(n), status=404)

    def all_put(self) -> list[Operation]:
        return [self.put(n) for n in range(len(self.sizes))]

    def all_got(self) -> list[Operation]:
        return [self.get(n) for n in range(len(self.sizes))]

    def path(self, n: int) -> str:
        return f"/{self.bucket}/{self.keys[n]}"


def objects_of(options: Options, prefix: str, *, first_content: int = 0, count: int = 0) -> Objects:
    """As many as the options say, or `count`. Sets of different `first_content` differ in sizes too."""
    drawn = sizes(
        options.seed + first_content,
        count or options.objects,
        options.size_min_bytes,
        options.size_max_bytes,
    )
    return Objects(options.bucket, prefix, drawn, first_content)


def delete_many(bucket: str, keys: Sequence[str]) -> Operation:
    """DeleteObjects; every key must be told as deleted."""
    entries = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    text = f"<Delete>{entries}</Delete>"
    digest = base64.b64encode(hashlib.md5(text.encode(), usedforsecurity=False).digest()).decode()
    return Operation(
        f"DELETE {len(keys)} at once",
        "POST",
        f"/{bucket}",
        query={"delete": ""},
        headers={"Content-MD5": digest},
        text=text,
        marks={"<Deleted>": len(keys), "<Error>": 0},
    )


def list_page(bucket: str, query: dict[str, str], *, keys: int, prefixes: int = 0, kind: str) -> Operation:
    """One page of ListObjectsV2, which must have so many keys and common prefixes."""
    return Operation(
        kind,
        "GET",
        f"/{bucket}",
        query={"list-type": "2", **query},
        marks={"<Key>": keys, "<CommonPrefixes>": prefixes},
    )
