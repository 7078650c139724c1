"""S3's rules for one bucket with versions, in plain Python: what each step must answer, and what must be there then.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.model.steps import (
    NULL,
    Body,
    Copy,
    Delete,
    DeleteVersion,
    Hold,
    If,
    Listed,
    Lock,
    Put,
    Refused,
    Rename,
    Retain,
    Seen,
    Step,
    Tag,
    Turn,
    Versioning,
)

NEW = "new"
"""In an expected answer: an id that was never seen before."""

Pairs = tuple[tuple[str, str], ...]


@dataclass
class Version:
    """`body` is None for a delete marker. `id` is NEW until the store has given one."""

    id: str
    body: Body | None = None
    tags: Pairs = ()
    metadata: Pairs = ()
    lock: Lock | None = None
    hold: bool = False

    def seen(self) -> Seen:
        assert self.body is not None
        return Seen(self.body.etag, self.body.size, self.tags, self.metadata, self.lock, self.hold)

    def check_removable(self, *, bypass: bool) -> None:
        if self.hold or (self.lock is not None and not (bypass and self.lock.mode == "GOVERNANCE")):
            raise Refused("ObjectLocked")


@dataclass(frozen=True)
class Expected:
    """An answer with NEW for an id that is the store's to choose; `made` is the version that gets it."""

    version: str | None = None
    marker: bool = False
    made: Version | None = None


class Reference:
    """The bucket. A step that is refused changes nothing."""

    def __init__(self, *, locking: bool = False) -> None:
        self.locking = locking
        self.versioning: Versioning = "enabled" if locking else "never"
        self.keys: dict[str, list[Version]] = {}
        """Newest first; no key without versions."""

    def current(self, key: str) -> Version | None:
        """None below a delete marker too."""
        top = self.keys.get(key, [None])[0]
        return None if top is None or top.body is None else top

    def version(self, key: str, version_id: str) -> Version | None:
        return next((one for one in self.keys.get(key, []) if one.id == version_id), None)

    def object(self, key: str, version_id: str | None) -> Version:
        """The version that a read or a change names. Raises Refused."""
        if version_id is not None:
            found = self.version(key, version_id)
            if found is None:
                raise Refused("NoSuchVersion")
        elif key not in self.keys:
            raise Refused("NoSuchKey")
        else:
            found = self.keys[key][0]
        if found.body is None:
            raise Refused("IsDeleteMarker")
        return found

    def versions(self) -> list[Listed]:
        """As ListObjectVersions has them."""
        return [
            Listed(
                key,
                one.id,
                place == 0,
                one.body is None,
                one.body.etag if one.body else "",
                one.body.size if one.body else 0,
            )
            for key in sorted(self.keys, key=str.encode)
            for place, one in enumerate(self.keys[key])
        ]

    def objects(self) -> Iterator[tuple[str, Version]]:
        """All versions that have bytes."""
        return (
            (key, one) for key, all_of_it in self.keys.items() for one in all_of_it if one.body is not None
        )

    # -- steps -----------------------------------------------------------------------------------------------

    def do(self, step: Step) -> Expected:
        """Raises Refused."""
        match step:
            case Turn(versioning):
                if self.locking and versioning == "suspended":
                    raise Refused("VersioningLocked")
                self.versioning = versioning
                return Expected()
            case Put():
                self._check(step.key, step.condition)
                return self._push(step.key, Version(NEW, step.body, step.tags, step.metadata, step.lock))
            case Copy():
                return self._copy(step)
            case Rename(source, key):
                found = self.current(source)
                if found is None:
                    raise Refused("NoSuchKey")
                self._push(key, replace(found, id=NEW))  # what locks it does so under the new name too
                self._delete(source)
                return Expected()
            case Delete():
                self._check(step.key, step.condition)
                return self._delete(step.key)
            case DeleteVersion():
                return self._delete_version(step)
            case Tag(key, version_id, tags):
                found = self.object(key, version_id)
                found.tags = tags
                return Expected(None if self.versioning == "never" else found.id)
            case Hold(key, version_id, on):
                found = self.object(key, version_id)
                found.hold = on
                return Expected()
            case Retain():
                return self._retain(step)

    def _check(self, key: str, condition: If | None) -> None:
        if condition is None:
            return
        current = self.current(key)
        if current is None:
            if condition.match is not None:
                raise Refused("NoSuchKey")
            return
        assert current.body is not None
        if condition.none_match in ("*", current.body.etag):
            raise Refused("PreconditionFailed")
        if condition.match is not None and condition.match not in ("*", current.body.etag):
            raise Refused("PreconditionFailed")

    def _push(self, key: str, made: Version) -> Expected:
        """A new version on top; the null version, wherever it is, makes room for another."""
        below = self.keys.get(key, [])
        if self.versioning != "enabled":
            made.id = NULL
            old = self.version(key, NULL)
            if old is not None:
                old.check_removable(bypass=False)
                below = [one for one in below if one is not old]
        self.keys[key] = [made, *below]
        return Expected(made.id if self.versioning == "enabled" else None, made=made)

    def _delete(self, key: str) -> Expected:
        if self.versioning == "never":
            self.keys.pop(key, None)
            return Expected()
        made = Version(NEW)
        return replace(self._push(key, made), version=made.id, marker=True)

    def _delete_version(self, step: DeleteVersion) -> Expected:
        found = self.version(step.key, step.version)
        shown = None if self.versioning == "never" else step.version
        if found is None:
            return Expected(shown)
        found.check_removable(bypass=step.bypass)
        left = [one for one in self.keys.pop(step.key) if one is not found]
        if left:
            self.keys[step.key] = left
        return Expected(shown, marker=found.body is None)

    def _copy(self, step: Copy) -> Expected:
        if step.version is None:
            found = self.current(step.source)
            if found is None:
                raise Refused("NoSuchKey")
        else:
            found = self.object(step.source, step.version)
        self._check(step.key, step.condition)
        tags = found.tags if step.tags is None else step.tags
        metadata = found.metadata if step.metadata is None else step.metadata
        return self._push(step.key, Version(NEW, found.body, tags, metadata))

    def _retain(self, step: Retain) -> Expected:
        found = self.object(step.key, step.version)
        old = found.lock
        extends = old is None or (step.lock.mode == old.mode and step.lock.days >= old.days)
        if not extends and not (step.bypass and old is not None and old.mode == "GOVERNANCE"):
            raise Refused("ObjectLocked")
        found.lock = step.lock
        return Expected()
