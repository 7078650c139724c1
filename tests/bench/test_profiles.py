"""Each profile against a server in memory: right when the server is, and failed when it forgets, mixes up or invents.

The same profiles run against a real store in tests/system/test_bench.py; versions, which it does not have yet, only
here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from conformance.bench import profiles, session
from conformance.bench.generator import carry_out
from conformance.bench.profiles import PROFILES
from conformance.bench.results import Run
from conformance.bench.runner import Asked as Order
from conformance.bench.runner import run_profile
from tests.bench.bucketful import Bucketful
from tests.bench.rote import Asked, serving

Fault = Callable[[Asked, bytes], bytes]
"""What becomes of the answer to a request."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator in this process, which saves the start of one for each phase, and small parts."""
    monkeypatch.setattr(session, "run_plan", carry_out)
    monkeypatch.setattr(profiles, "MULTIPART_PART_BYTES", 300_000)


def ran(profile: str, fault: Fault = lambda _, said: said, *, objects: int = 12) -> tuple[Run, Bucketful]:
    bucketful = Bucketful()
    with serving(lambda asked: fault(asked, bucketful(asked))) as server:
        run, broken = run_profile(
            Order(
                profile,
                url=f"http://127.0.0.1:{server.port}",
                access_key="AK",
                secret_key="hush-hush",
                objects=objects,
                sizes="70KB-90KB" if profile == "large" else None,
                seconds=0.1 if profile == "mixed" else 0.0,
                clients=3,
            )
        )
    assert broken == ""
    return run, bucketful


@pytest.mark.parametrize("profile", PROFILES)
def test_a_right_server_fails_nothing_and_keeps_nothing(profile: str) -> None:
    run, bucketful = ran(profile)
    assert (run.failed, run.notes, run.not_supported) == (0, [], []), run.phases
    assert run.count > 12
    assert not any(bucketful.versions.values())


def forgets_a_key(asked: Asked, said: bytes) -> bytes:
    """A listing without its last key: of the same length, so that only the keys can tell."""
    return re.sub(rb"<Key>([^<]+)</Key>$", rb"<Kex>\1</Kex>", said) if asked.method == "GET" else said


def keeps_the_deleted(asked: Asked, said: bytes) -> bytes:
    return said.replace(b"404 Said", b"200 Said") if asked.path.endswith("3") else said


def tells_an_error_within(asked: Asked, said: bytes) -> bytes:
    """DeleteObjects that was answered 200 and did not delete one."""
    return said.replace(b"<Deleted>", b"<Refused>", 1) if asked.method == "POST" else said


def mixes_up_versions(asked: Asked, said: bytes) -> bytes:
    """A byte of an old version."""
    if asked.method == "GET" and "versionId" in asked.query and said.endswith(b"\r\n\r\n") is False:
        return said[:-1] + bytes([said[-1] ^ 1])
    return said


def shifts_ranges(asked: Asked, said: bytes) -> bytes:
    head, end, body = said.partition(b"\r\n\r\n")
    return head + end + body[1:] + body[:1] if "range" in asked.headers else said


def loses_a_part(asked: Asked, said: bytes) -> bytes:
    """The content of the first two parts of an object in parts, the other way round."""
    if asked.method == "GET" and asked.path.endswith("multipart"):
        head, end, body = said.partition(b"\r\n\r\n")
        half = len(body) // 8
        return head + end + body[half : 2 * half] + body[:half] + body[2 * half :]
    return said


@pytest.mark.parametrize(
    ("profile", "fault", "phases"),
    [
        ("list", forgets_a_key, {"pages", "directories"}),
        ("delete", keeps_the_deleted, {"everything is gone"}),
        ("delete", tells_an_error_within, {"delete many at once"}),
        ("versions", mixes_up_versions, {"download every version", "versions behind the markers"}),
        ("large", shifts_ranges, {"ranges"}),
        ("large", loses_a_part, {"multipart verify"}),
    ],
)
def test_a_wrong_server_fails_where_it_is_wrong(profile: str, fault: Fault, phases: set[str]) -> None:
    """And nowhere else."""
    run, _ = ran(profile, fault, objects=24)
    assert {phase.name for phase in run.phases if phase.failed} == phases
