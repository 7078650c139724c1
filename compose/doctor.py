"""What `trivet doctor` does: every check once, in an order in which the first bad line is the cause of later ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial

from compose import running
from compose.checks import configuration, disks, machine, store
from compose.checks.finding import Check, Finding, Subject, bad, ok, warn
from compose.data_dir import DataDir
from compose.settings import Settings

_JUMP_S = 0.2

OF_MACHINE: tuple[Check, ...] = (
    machine.versions,
    machine.sqlite,
    configuration.settings,
    configuration.directory,
    configuration.secrets,
    configuration.reach,
    machine.open_files,
    machine.clock,
)
OF_DISKS: tuple[Callable[[Subject, disks.Homes], Iterator[Finding]], ...] = (
    disks.file_systems,
    disks.shared,
    disks.space,
    disks.sync_speed,
)


def subject_of(settings: Settings) -> Subject:
    """The store of these settings, and the environment of this process."""
    place = DataDir(settings.data)
    supervisor = running.supervisor_pid(place)
    return Subject(
        settings=settings,
        place=place,
        environment=dict(os.environ),
        running=running.processes(place),
        in_force=running.environment_of(supervisor) if supervisor is not None else {},
    )


def findings(subject: Subject) -> Iterator[Finding]:
    """All of them, each as soon as it is known. Changes nothing, and leaves no file behind."""
    began_s, began_wall_s = time.monotonic(), time.time()
    for check in OF_MACHINE:
        yield from _guarded(check.__name__, partial(check, subject))
    if not subject.founded:
        place = subject.place.root.absolute()
        yield warn("store", f"there is no store in {place}", "trivet up makes one; or name it: --data DIR")
    else:
        catalog = store.catalog_of(subject)
        yield from catalog.findings
        homes = store.homes_of(subject, catalog.nodes)
        for look in OF_DISKS:
            yield from _guarded(look.__name__, partial(look, subject, homes))
        if catalog.usable:
            yield from store.findings_of_store(subject)
    jump_s = (time.time() - began_wall_s) - (time.monotonic() - began_s)
    if abs(jump_s) > _JUMP_S:
        yield warn(
            "clock", f"it jumped by {jump_s:+.1f} s while this looked", "have it kept by NTP (timedatectl)"
        )


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What stands in the way of one check does not hide the others."""
    try:
        yield from look()
    except OSError as error:
        yield bad(
            name.replace("_", " "),
            f"could not be looked at: {error.filename or ''} {error.strerror}".strip(),
            "run it as the user that runs the store",
        )


def worst(found: list[Finding]) -> str:
    """ok, warn or bad."""
    states = {finding.state for finding in found}
    return "bad" if "bad" in states else "warn" if "warn" in states else "ok"


__all__ = ["findings", "ok", "subject_of", "worst"]
