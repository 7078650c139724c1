"""One run against one endpoint: phase after phase, each a plan carried out and its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from conformance.bench.extras import S3Connection
from conformance.bench.load import run_plan
from conformance.bench.plan import Endpoint, Operation, Outcome, Plan, Progress
from conformance.bench.results import Phase, Recovery, phase_of

Done = TypeVar("Done")


class NotSupported(Exception):
    """The endpoint refuses what a profile is about: no failure of the endpoint."""


class Onlooker(Protocol):
    """Who is told how the run goes."""

    def begins(self, phase: str, operations: int) -> None:
        """`operations` is 0 for a phase that goes by time, or by events."""

    def goes_on(self, progress: Progress) -> None: ...

    def ended(self, phase: Phase) -> None: ...

    def says(self, words: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What to do, as far as the profiles go. `seconds` is how long what can be repeated is repeated; 0: once."""

    objects: int
    size_min_bytes: int
    size_max_bytes: int
    clients: int = 1
    seconds: float = 0.0
    seed: int = 0
    bucket: str = "trivet-bench"


class Session:
    """Collects the phases of a run."""

    def __init__(self, endpoint: Endpoint, options: Options, onlooker: Onlooker) -> None:
        self.endpoint = endpoint
        self.options = options
        self.phases: list[Phase] = []
        self.recovery: Recovery | None = None
        self.notes: list[str] = []
        self._onlooker = onlooker
        self._began = time.perf_counter()
        self._stored: dict[str, None] = {}

    def phase(self, name: str, operations: Sequence[Operation], *, repeats: bool = False) -> Outcome:
        """Each operation once, or, with `repeats`, for the seconds of the options if there are any. Raises
        LoadFailed only when nothing could be sent at all."""
        seconds = self.options.seconds if repeats else 0.0
        plan = Plan(
            self.endpoint,
            list(operations),
            clients=min(self.options.clients, max(1, len(operations))),
            seconds=seconds,
            seed=self.options.seed,
        )
        self._stored |= {each.path: None for each in operations if each.method == "PUT" and not each.query}
        self._onlooker.begins(name, 0 if seconds else len(operations))
        outcome = run_plan(plan, self._onlooker.goes_on)
        begins_s = self._since_began() - outcome.seconds  # without the start of the generator's process
        self._add(phase_of(name, begins_s, plan.clients, outcome))
        return outcome

    def event(self, name: str, work: Callable[[], Done]) -> Done:
        """A phase in which the bench sends no load: what `work` returns."""
        self._onlooker.begins(name, 0)
        begins_s = self._since_began()
        done = work()
        seconds = self._since_began() - begins_s
        self._add(Phase(name, begins_s, seconds, 0, [], [], 0.0, max(seconds, 1e-3), [0]))
        return done

    def stored(self, path: str) -> None:
        """Something was stored that no single PUT of a phase did."""
        self._stored[path] = None

    def gone(self, paths: Iterable[str]) -> None:
        """The profile has deleted these for good: another DELETE could leave a marker."""
        for path in paths:
            self._stored.pop(path, None)

    def say(self, words: str) -> None:
        """A line for the person who watches."""
        self._onlooker.says(words)

    def note(self, words: str) -> None:
        """Something that readers of the figures must know."""
        self.notes.append(words)
        self._onlooker.says(words)

    def clean_up(self) -> None:
        """Deletes what the phases stored, and the bucket, which must be empty then. What does not go is noted."""
        bucket = self.options.bucket
        deletes = [Operation("DELETE", "DELETE", path, status=204) for path in self._stored]
        failed = run_plan(Plan(self.endpoint, deletes, clients=min(8, max(1, len(deletes))))).failed
        connection = S3Connection(self.endpoint)
        status, _, _ = connection.ask("DELETE", f"/{bucket}")
        connection.close()
        if failed or status != 204:
            self.note(f"bucket {bucket} could not be removed again ({status}; {failed} objects left)")

    def _add(self, phase: Phase) -> None:
        self.phases.append(phase)
        self._onlooker.ended(phase)

    def _since_began(self) -> float:
        return time.perf_counter() - self._began
