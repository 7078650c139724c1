"""Carries out one profile: against a store of its own, started and removed again, or against a given endpoint."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from conformance.bench.extras import make_bucket
from conformance.bench.five_phases import RecoveryFailed, five_phases
from conformance.bench.load import LoadFailed
from conformance.bench.machine import sync_ms, this_machine
from conformance.bench.onlookers import onlooker
from conformance.bench.plan import Endpoint
from conformance.bench.profiles import PROFILES, Profile
from conformance.bench.results import Run
from conformance.bench.session import NotSupported, Options, Session
from conformance.bench.target import Target, TargetFailed, running_store

FAILURE_OBJECTS = 1000
FAILURE_SIZES = (1000, 10_000)
_UNITS = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}
_LOG_BYTES_TOLD = 3000


class CannotRun(Exception):
    """The options make no sense, or nothing answers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for; None: the profile's own choice."""

    profile: str
    url: str | None = None
    """None: a store of its own."""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    region: str = "us-east-1"
    bucket: str | None = None
    objects: int | None = None
    sizes: str | None = None
    seconds: float | None = None
    clients: int = 1
    seed: int = 0
    folder: Path | None = None
    """Where the directory of the store of its own goes."""
    fronts: int = 1


def run_profile(asked: Asked) -> tuple[Run, str]:
    """What came of it, and, when it could not be carried out to its end, why. Raises CannotRun."""
    options = _options(asked)
    with _ending_on_sigterm(), onlooker() as watching:
        if asked.url is not None:
            session = Session(_endpoint(asked, asked.url), options, watching)
            _make_bucket(session)
            return _carry_out(asked, session, None, 0.0)
        with _own_store(asked) as (target, disk_sync_ms):
            session = Session(target.endpoint, options, watching)
            _make_bucket(session)
            return _carry_out(asked, session, target, disk_sync_ms)


def _carry_out(asked: Asked, session: Session, target: Target | None, disk_sync_ms: float) -> tuple[Run, str]:
    begun = datetime.now(UTC)
    broken, not_supported = "", []
    try:
        if asked.profile == "failure":
            five_phases(session, target)
        else:
            PROFILES[asked.profile].run(session)
    except NotSupported as refusal:
        not_supported.append(str(refusal))
    except (LoadFailed, RecoveryFailed) as failure:
        broken = str(failure)
        if target is not None:
            broken += _last_log(target.data.parent)
    if target is None:
        with contextlib.suppress(LoadFailed):  # it does not answer any more, which is told already
            session.clean_up()
    run = Run(
        profile=asked.profile,
        endpoint=asked.url or "a store of its own",
        begun_at=begun.isoformat(timespec="seconds"),
        machine=this_machine(disk_sync_ms),
        options=_told(session.options),
        phases=session.phases,
        recovery=session.recovery,
        not_supported=not_supported,
        notes=session.notes,
    )
    return run, broken


@contextlib.contextmanager
def _own_store(asked: Asked) -> Iterator[tuple[Target, float]]:
    """A new store in a temporary directory, and the time of a sync there."""
    try:
        made = tempfile.TemporaryDirectory(prefix="trivet-bench-", dir=asked.folder)
    except OSError as error:
        raise CannotRun(f"no store can be made in {asked.folder}: {error.strerror}") from None
    with made as name:
        folder = Path(name)
        disk_sync_ms = sync_ms(folder)
        try:
            with running_store(folder / "data", ("--fronts", str(asked.fronts))) as target:
                yield target, disk_sync_ms
        except TargetFailed as failure:
            raise CannotRun(f"{failure}{_last_log(folder)}") from None


def _last_log(folder: Path) -> str:
    log = (folder / "store.log").read_text(errors="replace")[-_LOG_BYTES_TOLD:]
    return f"\n\nlast lines of the store's log:\n{log}"


def _make_bucket(session: Session) -> None:
    try:
        make_bucket(session.endpoint, session.options.bucket)
    except LoadFailed as failure:
        raise CannotRun(f"the bucket can't be made: {failure}") from None


def _options(asked: Asked) -> Options:
    default = PROFILES.get(asked.profile)
    if default is None:
        default = Profile("", lambda _: None, FAILURE_OBJECTS, *FAILURE_SIZES)
    smallest, largest = default.size_min_bytes, default.size_max_bytes
    if asked.sizes is not None:
        smallest, largest = parse_sizes(asked.sizes)
    return Options(
        objects=asked.objects or default.objects,
        size_min_bytes=smallest,
        size_max_bytes=largest,
        clients=asked.clients,
        seconds=default.seconds if asked.seconds is None else asked.seconds,
        seed=asked.seed,
        bucket=asked.bucket or f"trivet-bench-{os.urandom(4).hex()}",
    )


def parse_sizes(text: str) -> tuple[int, int]:
    """Bytes of ``1KB-10KB`` or of one size. Raises CannotRun."""
    parts = [_size(part) for part in text.split("-")]
    if len(parts) > 2 or parts != sorted(parts):
        raise CannotRun(f"--sizes {text}: give one size, or the smallest and the largest: 1KB-10KB")
    return parts[0], parts[-1]


def _size(text: str) -> int:
    found = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", text)
    if found is None or found.group(2).upper() not in _UNITS:
        raise CannotRun(f"{text!r} is no size: write 4096, 10KB, 4KiB, 1MiB")
    return int(found.group(1)) * _UNITS[found.group(2).upper()]


def _endpoint(asked: Asked, url: str) -> Endpoint:
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise CannotRun(f"--endpoint {url}: this is no port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise CannotRun(f"--endpoint {url}: write http://HOST:PORT or https://HOST")
    if not asked.access_key or not asked.secret_key:
        raise CannotRun("give --access-key and --secret-key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return Endpoint(
        parts.hostname, port, asked.region, asked.access_key, asked.secret_key, parts.scheme == "https"
    )


def _told(options: Options) -> dict[str, object]:
    return {
        "objects": options.objects,
        "size_min_bytes": options.size_min_bytes,
        "size_max_bytes": options.size_max_bytes,
        "clients": options.clients,
        "seconds": options.seconds,
        "seed": options.seed,
    }


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does, so that the store of its own ends as well."""

    def end(_number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + signal.SIGTERM)

    before: Callable[[int, FrameType | None], object] | int | None = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
