"""Steps drawn at random, most of them such that they do something, some of them such that they must be refused."""

from __future__ import annotations

from random import Random

from tests.model.reference import Reference
from tests.model.steps import (
    NULL,
    Body,
    Copy,
    Delete,
    DeleteVersion,
    Hold,
    If,
    Lock,
    Put,
    Rename,
    Retain,
    Step,
    Tag,
    Turn,
)

KEYS = ("a", "a/b", "ä")
SIZES = (0, 1, 17, 300, 5000)
UNKNOWN = "0000000000070123456789abcdef0123"
"""A version id as stores make them, of no version."""


class Drawing:
    """One step after the other. `part_bytes_min`: what all parts but the last must have."""

    def __init__(self, random: Random, reference: Reference, *, part_bytes_min: int) -> None:
        self._random = random
        self._reference = reference
        self._part_bytes_min = part_bytes_min
        self._seed = random.getrandbits(48)

    def step(self) -> Step:
        draw = self._random.choices(
            (self.put, self.copy, self.rename, self.delete, self.delete_version, self.change, self.turn),
            (28, 14, 6, 12, 20, 14, 3),
        )[0]
        return draw()

    def key(self) -> str:
        return self._random.choice(KEYS)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple(
            (name, str(self._random.randrange(9))) for name in ("x", "y") if self._random.random() < 0.3
        )

    def seldom(self, share: float = 0.2) -> bool:
        return self._random.random() < share

    def condition(self, key: str) -> If | None:
        if not self.seldom():
            return None
        current = self._reference.current(key)
        etag = current.body.etag if current is not None and current.body is not None else "0" * 32
        return self._random.choice((If(match=etag), If(match="1" * 32), If(match="*"), If(none_match="*")))

    def version(self, key: str) -> str:
        """Mostly one that the key has."""
        known = [one.id for one in self._reference.keys.get(key, [])]
        return UNKNOWN if not known or self.seldom(0.05) else self._random.choice(known)

    def lock(self) -> Lock:
        return Lock(
            self._random.choice(("GOVERNANCE", "GOVERNANCE", "COMPLIANCE")), self._random.randrange(4)
        )

    def body(self) -> Body:
        sizes = [self._random.choice(SIZES)]
        multipart = self.seldom()
        if multipart and self.seldom(0.02 if self._part_bytes_min > 1 else 0.5):
            sizes.insert(0, self._part_bytes_min + self._random.randrange(100))
        self._seed += len(sizes)
        return Body(tuple((self._seed + place, size) for place, size in enumerate(sizes)), multipart)

    def put(self) -> Put:
        key, body = self.key(), self.body()
        lock = self.lock() if self._reference.locking and self.seldom(0.3) else None
        # S3 takes If-None-Match: * at a completion, and If-Match, as for a PUT.
        return Put(key, body, self.pairs(), self.pairs(), lock, self.condition(key))

    def copy(self) -> Step:
        source, key = self.key(), self.key()
        version = None if self.seldom(0.5) else self.version(source)
        found = None if version is None else self._reference.version(source, version)
        if found is not None and found.body is None:
            version = None  # S3 has an error of its own for a marker as a source
        tags = self.pairs() if self.seldom(0.4) else None
        metadata = self.pairs() if source == key or self.seldom(0.3) else None
        return Copy(source, version, key, tags, metadata, self.condition(key))

    def rename(self) -> Step:
        source, key = self._random.sample(KEYS, 2)
        return Rename(source, key)

    def delete(self) -> Delete:
        key = self.key()
        condition = self.condition(key)
        if condition is not None and condition.none_match is not None:
            condition = None  # there is no such condition for a DELETE
        return Delete(key, condition)

    def delete_version(self) -> DeleteVersion:
        key = self.key()
        return DeleteVersion(key, self.version(key), self.seldom(0.5))

    def change(self) -> Step:
        key = self.key()
        version = self.version(key) if self.seldom(0.7) else None
        if self._reference.versioning == "never" and version not in (None, NULL):
            version = None
        if not self._reference.locking or self.seldom(0.3):
            return Tag(key, version, self.pairs())
        if self.seldom(0.4):
            return Hold(key, version, self.seldom(0.4))
        return Retain(key, version, self.lock(), self.seldom(0.5))

    def turn(self) -> Turn:
        return Turn("suspended" if self._reference.versioning == "enabled" else "enabled")
