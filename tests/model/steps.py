"""What the model and a store are both asked to do: one small value a step, which prints as it can be read again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Versioning = Literal["never", "enabled", "suspended"]
NULL = "null"


class Refused(Exception):
    """The step has no effect. `code` as the catalog names it, which is S3's where S3 has one."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Body:
    """The bytes of an object: pieces that a seed and a size stand for, one a part."""

    pieces: tuple[tuple[int, int], ...]
    multipart: bool = False

    @cached_property
    def parts(self) -> list[bytes]:
        """No two seeds have a common piece of 16 bytes."""
        return [hashlib.shake_128(seed.to_bytes(8, "big")).digest(size) for seed, size in self.pieces]

    @property
    def content(self) -> bytes:
        return b"".join(self.parts)

    @property
    def size(self) -> int:
        return sum(size for _, size in self.pieces)

    @cached_property
    def etag(self) -> str:
        """As S3 has it: MD5, or MD5 of the parts' MD5s and their number."""
        digests = [hashlib.md5(part).digest() for part in self.parts]
        if not self.multipart:
            return digests[0].hex()
        return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"


@dataclass(frozen=True)
class If:
    """Conditions on the current version: ETags, or `*`."""

    match: str | None = None
    none_match: str | None = None


@dataclass(frozen=True)
class Lock:
    """Retention: `days` count from a day far ahead, so that none ends while a test runs."""

    mode: str
    days: int


@dataclass(frozen=True)
class Turn:
    """PutBucketVersioning."""

    versioning: Versioning


@dataclass(frozen=True)
class Put:
    """PutObject, or a whole multipart upload if the body says so."""

    key: str
    body: Body
    tags: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    lock: Lock | None = None
    condition: If | None = None


@dataclass(frozen=True)
class Copy:
    """CopyObject, of one version or the current one; `tags` and `metadata` None: the source's."""

    source: str
    version: str | None
    key: str
    tags: tuple[tuple[str, str], ...] | None = None
    metadata: tuple[tuple[str, str], ...] | None = None
    condition: If | None = None


@dataclass(frozen=True)
class Rename:
    """RenameObject, of the current version."""

    source: str
    key: str


@dataclass(frozen=True)
class Delete:
    """DeleteObject without a version."""

    key: str
    condition: If | None = None


@dataclass(frozen=True)
class DeleteVersion:
    """DeleteObject of one version or delete marker."""

    key: str
    version: str
    bypass: bool = False


@dataclass(frozen=True)
class Tag:
    """PutObjectTagging; no tags: DeleteObjectTagging."""

    key: str
    version: str | None
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Hold:
    """PutObjectLegalHold."""

    key: str
    version: str | None
    on: bool


@dataclass(frozen=True)
class Retain:
    """PutObjectRetention."""

    key: str
    version: str | None
    lock: Lock
    bypass: bool = False


Step = Turn | Put | Copy | Rename | Delete | DeleteVersion | Tag | Hold | Retain


@dataclass(frozen=True)
class Answer:
    """What a step that was done says: the version it made, removed or changed, as answers show it."""

    version: str | None = None
    marker: bool = False


@dataclass(frozen=True)
class Seen:
    """A version as a reader finds it."""

    etag: str
    size: int
    tags: tuple[tuple[str, str], ...]
    metadata: tuple[tuple[str, str], ...]
    lock: Lock | None
    hold: bool


@dataclass(frozen=True)
class Listed:
    """An entry of ListObjectVersions."""

    key: str
    version: str
    latest: bool
    marker: bool
    etag: str
    size: int
