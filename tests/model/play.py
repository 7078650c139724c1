"""Plays a seed: random steps on the model and on a store, and everything is compared after each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol, TypeVar

from catalog.usage_changes import Usage
from tests.model.drawing import KEYS, Drawing
from tests.model.reference import NEW, Expected, Reference, Version
from tests.model.steps import Answer, Listed, Refused, Seen, Step

T = TypeVar("T")

TOLD_STEPS = 12
FEW = 30
"""Versions that may be listed one by one."""


class Store(Protocol):
    """What a model is compared with: one bucket."""

    part_bytes_min: int
    trouble_share: float
    """Of the steps, before which there is some."""

    def do(self, step: Step) -> Answer:
        """Raises Refused."""

    def versions(self, page: int) -> list[Listed]:
        """In the order of ListObjectVersions."""

    def keys(self) -> list[str]:
        """In the order of ListObjectsV2."""

    def read(self, key: str, version: str | None) -> Seen:
        """Raises Refused; NoSuchKey for a key whose newest version is a delete marker."""

    def check_books(self, expected: Usage) -> None:
        """What it counts is what is there."""

    def trouble(self, random: Random) -> str:
        """Something that no client may notice; its name."""

    def close(self) -> None:
        """The end of it."""


class Play:
    """One seed on a new store."""

    def __init__(self, seed: int, store: Store, *, locking: bool) -> None:
        self._seed = seed
        self._random = Random(seed)
        self._store = store
        self.model = Reference(locking=locking)
        self._drawing = Drawing(self._random, self.model, part_bytes_min=store.part_bytes_min)
        self._ids: set[str] = set()
        self._told: deque[str] = deque(maxlen=TOLD_STEPS)
        self.steps = 0
        self.refused = 0

    def play(self, steps: int) -> None:
        """Raises AssertionError that names the seed, the step and those before it."""
        for _ in range(steps):
            try:
                self._step()
            except Exception as error:
                told = "\n  ".join(self._told)
                raise AssertionError(
                    f"seed {self._seed}, step {self.steps}: {error!r}; the last steps:\n  {told}"
                ) from error

    def _step(self) -> None:
        self.steps += 1
        if self._random.random() < self._store.trouble_share:
            self._told.append(self._store.trouble(self._random))
        step = self._drawing.step()
        self._told.append(repr(step))
        expected = _outcome(lambda: self.model.do(step))
        answer = _outcome(lambda: self._store.do(step))
        if isinstance(expected, Expected):
            assert isinstance(answer, Answer), f"{answer} instead of {expected}"
            self._confirm(expected, answer)
            self._told.append(f"  {answer}")
        else:
            self.refused += 1
            assert answer == expected, f"{answer} instead of {expected}"
        self._compare()

    def _confirm(self, expected: Expected, answer: Answer) -> None:
        assert answer.marker == expected.marker
        if expected.version != NEW:
            assert answer.version == expected.version
        else:
            assert expected.made is not None
            self._name(expected.made, answer.version)

    def _name(self, made: Version, version_id: str | None) -> None:
        """Take the store's word for a new version's id, which must be new."""
        assert version_id is not None
        assert version_id not in self._ids, "an id is given once"
        self._ids.add(version_id)
        made.id = version_id

    def _compare(self) -> None:
        model = self.model
        count = sum(map(len, model.keys.values()))
        listed = self._store.versions(self._random.choice((1, 2, 3) if count < FEW else (count // 3, 1000)))
        unnamed = [(key, one) for key, versions in model.keys.items() for one in versions if one.id == NEW]
        for key, made in unnamed:  # a rename's answer tells neither the version nor the marker that it makes
            self._name(made, next((one.version for one in listed if one.key == key), None))
        expected = model.versions()
        assert listed == expected, f"listed are {listed} instead of {expected}"
        assert self._store.keys() == [key for key in sorted(KEYS, key=str.encode) if model.current(key)]
        key = self._random.choice(KEYS)
        current = model.current(key)
        self._read(key, None, current.seen() if current else "NoSuchKey")
        for one in model.keys.get(key, []):
            self._read(key, one.id, one.seen() if one.body else "IsDeleteMarker")
        sizes = [one.body.size for _, one in model.objects() if one.body]
        self._store.check_books(Usage(sum(1 for key in KEYS if model.current(key)), count, sum(sizes)))

    def _read(self, key: str, version: str | None, expected: Seen | str) -> None:
        found = _outcome(partial(self._store.read, key, version))
        assert found == expected, f"{key} {version}: {found} instead of {expected}"


def _outcome(function: Callable[[], T]) -> T | str:
    """What it returns, or the code of its refusal."""
    try:
        return function()
    except Refused as refusal:
        return refusal.code
