"""What the rules of a bucket's lifecycle say of one version: arithmetic without a catalog.

Of several expirations the earliest counts, and expiration comes before any transition. Of several transitions that are
due the one to the coldest class counts; a version never goes back to a warmer one.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-conflicts.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from catalog.bucket_model import BucketActions, LifecycleRule, Transition

DAY_MS = 86_400_000

STORAGE_CLASSES = (
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "INTELLIGENT_TIERING",
    "ONEZONE_IA",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
)
"""From the warmest to the coldest. Transitions go to the right only."""

ALL_CLASSES_128K = "all_storage_classes_128K"
VARIES_BY_CLASS = "varies_by_storage_class"
TRANSITION_MINIMUM_SIZES = (ALL_CLASSES_128K, VARIES_BY_CLASS)

_TRANSITION_BYTES_MIN = 128 << 10
_ANY_SIZE = ("GLACIER", "DEEP_ARCHIVE")
_COLDNESS = {name: coldness for coldness, name in enumerate(STORAGE_CLASSES)}


class Seen(Struct, frozen=True, gc=False):
    """What rules look at of a version, or delete marker. `noncurrent_ms`: since when there is a newer one; None for
    the newest of its key. `newer_noncurrent`: how many noncurrent versions, delete markers too, are newer. `alone`:
    the key has no other version."""

    modified_ms: int
    size: int = 0
    storage_class: str = "STANDARD"
    tags: Mapping[str, str] = {}
    noncurrent_ms: int | None = None
    newer_noncurrent: int = 0
    is_marker: bool = False
    alone: bool = False


class Removal(Struct, frozen=True, order=True):
    """When a rule expires a version, and which one."""

    at_ms: int
    rule_id: str


class Outlook(Struct, frozen=True):
    """What is to be done with a version now, and when to look at it next if only that is done; None: never, as long as
    nothing changes."""

    expired: bool = False
    storage_class: str | None = None
    next_ms: int | None = None


def days_after(since_ms: int, days: int, day_ms: int) -> int:
    """So many days later, at the midnight (UTC) that follows. Shorter days, which are there to try rules, count from
    `since_ms` to the millisecond."""
    at_ms = since_ms + days * day_ms
    return -(-at_ms // day_ms) * day_ms if day_ms == DAY_MS else at_ms


class KeyRules(Struct, frozen=True):
    """The rules in force for one key, as far as its name decides it."""

    rules: tuple[LifecycleRule, ...]
    minimum_size: str
    """TransitionDefaultMinimumObjectSize of the lifecycle."""
    day_ms: int = DAY_MS

    @classmethod
    def of(cls, actions: BucketActions, key: bytes, day_ms: int) -> KeyRules | None:
        """None where no rule is in force for the key."""
        rules = tuple(
            rule
            for rule in actions.lifecycle
            if rule.enabled and key.startswith((rule.prefix or "").encode())
        )
        return cls(rules, actions.transition_minimum_size, day_ms) if rules else None

    def removal(self, seen: Seen) -> Removal | None:
        """The first of the expirations that concern a version."""
        return min(
            (Removal(at_ms, rule.id) for rule in self.rules for at_ms in self._removals(rule, seen)),
            default=None,
        )

    def _removals(self, rule: LifecycleRule, seen: Seen) -> Iterator[int]:
        if not _concerns(rule, seen):
            return
        if seen.noncurrent_ms is not None:
            if rule.noncurrent_days is not None and seen.newer_noncurrent >= (rule.newer_noncurrent or 0):
                yield days_after(seen.noncurrent_ms, rule.noncurrent_days, self.day_ms)
            return
        if seen.is_marker and not seen.alone:
            return
        if seen.is_marker and rule.expired_delete_markers:
            yield seen.modified_ms
        if rule.expiration_days is not None:
            yield days_after(seen.modified_ms, rule.expiration_days, self.day_ms)
        if rule.expiration_date_ms is not None:
            yield rule.expiration_date_ms

    def outlook(self, seen: Seen, now_ms: int) -> Outlook:
        """What the rules want of a version at `now_ms`."""
        first = self.removal(seen)
        if first is not None and first.at_ms <= now_ms:
            return Outlook(expired=True)
        moves = [move for rule in self.rules for move in self._moves(rule, seen)]
        target = max((to for at_ms, to in moves if at_ms <= now_ms), default=None)
        later = [at_ms for at_ms, to in moves if at_ms > now_ms and (target is None or to > target)]
        if first is not None:
            later.append(first.at_ms)
        return Outlook(
            storage_class=None if target is None else STORAGE_CLASSES[target],
            next_ms=min(later, default=None),
        )

    def _moves(self, rule: LifecycleRule, seen: Seen) -> Iterator[tuple[int, int]]:
        """When the rule wants the version in which storage class, by coldness: only such as are colder than its own."""
        if seen.is_marker or not _concerns(rule, seen):
            return
        has_size = rule.size_greater_than is not None or rule.size_less_than is not None
        for move in rule.transitions if seen.noncurrent_ms is None else rule.noncurrent_transitions:
            to = _COLDNESS[move.storage_class]
            if (
                to > _COLDNESS.get(seen.storage_class, 0)
                and seen.newer_noncurrent >= (move.newer_noncurrent or 0)
                and (has_size or self._is_large_enough(seen.size, move.storage_class))
            ):
                yield self._moves_at(move, seen), to

    def _is_large_enough(self, size: int, storage_class: str) -> bool:
        """https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html"""
        if self.minimum_size == VARIES_BY_CLASS and storage_class in _ANY_SIZE:
            return True
        return size >= _TRANSITION_BYTES_MIN

    def _moves_at(self, move: Transition, seen: Seen) -> int:
        if move.date_ms is not None:
            return move.date_ms
        since_ms = seen.modified_ms if seen.noncurrent_ms is None else seen.noncurrent_ms
        return days_after(since_ms, move.days or 0, self.day_ms)

    def noncurrent_from(self, since_ms: int) -> int | None:
        """Before this time no rule concerns a version that became noncurrent at `since_ms` or later."""
        days = [rule.noncurrent_days for rule in self.rules if rule.noncurrent_days is not None]
        days += [move.days or 0 for rule in self.rules for move in rule.noncurrent_transitions]
        return days_after(since_ms, min(days), self.day_ms) if days else None

    def spared(self) -> set[int]:
        """The numbers of newer noncurrent versions from which on a version is a rule's concern."""
        found = {rule.newer_noncurrent or 0 for rule in self.rules if rule.noncurrent_days is not None}
        return found | {
            move.newer_noncurrent or 0 for rule in self.rules for move in rule.noncurrent_transitions
        }

    def upload_ends(self, created_ms: int) -> int | None:
        """When an upload is aborted that is open till then. It has neither a size nor tags that rules would look at."""
        return min(
            (
                days_after(created_ms, rule.abort_upload_days, self.day_ms)
                for rule in self.rules
                if rule.abort_upload_days is not None and not _has_conditions(rule)
            ),
            default=None,
        )


def _concerns(rule: LifecycleRule, seen: Seen) -> bool:
    """Whether the rule's filter, beside its prefix, holds. Delete markers have neither tags nor a size."""
    if seen.is_marker:
        return not _has_conditions(rule)
    return (
        all(seen.tags.get(name) == value for name, value in rule.tags)
        and (rule.size_greater_than is None or seen.size > rule.size_greater_than)
        and (rule.size_less_than is None or seen.size < rule.size_less_than)
    )


def _has_conditions(rule: LifecycleRule) -> bool:
    return bool(rule.tags) or rule.size_greater_than is not None or rule.size_less_than is not None
