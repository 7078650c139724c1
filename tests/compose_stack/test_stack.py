"""The stack for real: built, started, used, a node and a steward killed, healed, taken down, started again."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.compose_stack.engine import reachable_engine
from tests.compose_stack.images import base_tag, make_missing_images
from tests.compose_stack.stack import Stack, compose_commands, project_name
from tests.system.conftest import until

BUCKET = "kept"
NODES_UP = "sum(max by (node) (trivet_node_up))"
RENEWALS = "min_over_time(max(rate(trivet_steward_lease_renewals_total[10s]))[10s:5s])"
_LONG_WAIT_S = 120.0
_IMAGE_BYTES_MAX = 180 << 20
# The first test waits for base images that debootstrap makes, and for the build.
pytestmark = pytest.mark.timeout(1200)


def _free_ports() -> tuple[int, int, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    first, second, third = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    return first, second, third


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Up, with Prometheus; taken down with all that it made, whatever happens."""
    commands = compose_commands()
    if not commands:
        pytest.skip(
            "neither docker compose nor docker-compose is installed (Debian: apt-get install docker-compose)"
        )
    folder = tmp_path_factory.mktemp("compose")
    with reachable_engine(folder / "engine") as engine:
        make_missing_images(engine, folder / "images")
        made = Stack(engine, commands[0], project_name(), _free_ports())
        try:
            made.compose("build")
            made.compose("up", "--detach")
            made.compose("--profile", "monitoring", "up", "--detach", "prometheus")
            _until(made, lambda: made.health(0) == made.health(1) == "healthy", "both fronts call it healthy")
            yield made
        finally:
            made.compose("--profile", "monitoring", "down", "--volumes", "--remove-orphans")
            engine.docker("image", "rm", "--force", made.image)
            assert not made.left_over()


def _until(stack: Stack, condition: Callable[[], bool], what: str) -> None:
    try:
        until(condition, what, wait_s=_LONG_WAIT_S)
    except AssertionError:
        pytest.fail(f"{what}: never.\n{stack.logs()}")


def _body(key: str) -> bytes:
    """Some hundred kilobytes that the key alone gives."""
    return hashlib.sha256(key.encode()).digest() * 10_000


def _store(stack: Stack, front: int, keys: list[str]) -> None:
    with closing(stack.client(front)) as client:
        for key in keys:
            client.put_object(Bucket=BUCKET, Key=key, Body=_body(key))


def _read(stack: Stack, front: int, keys: list[str]) -> None:
    """Each as it was stored."""
    with closing(stack.client(front)) as client:
        for key in keys:
            assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == _body(key), key


@pytest.fixture(scope="module")
def kept(stack: Stack) -> list[str]:
    """Keys of objects that were stored through one front; tests add theirs."""
    with closing(stack.client(0)) as client:
        client.create_bucket(Bucket=BUCKET)
    keys = [f"early-{number}" for number in range(20)]
    _store(stack, 0, keys)
    return keys


@pytest.mark.long
def test_the_image_is_small_and_runs_without_root(stack: Stack) -> None:
    """What Trivet adds to its base, and as whom it runs, where the files it may write are its volumes alone."""
    told = json.loads(stack.engine.docker("image", "inspect", stack.image, base_tag()))
    assert told[0]["Size"] - told[1]["Size"] < _IMAGE_BYTES_MAX
    assert told[0]["Config"]["User"] == "10001:10001"
    for service in ("front-1", "node-1", "steward-1"):
        assert stack.compose("exec", "-T", service, "id", "-u").strip() == "10001"
        where = json.loads(stack.engine.docker("inspect", stack.container(service)))[0]
        assert where["HostConfig"]["ReadonlyRootfs"]
        assert not where["HostConfig"]["Privileged"]


@pytest.mark.long
def test_what_is_secret_stays_in_the_volume(stack: Stack) -> None:
    """Neither the engine's descriptions of containers nor their logs have a secret in them, and a node is given the
    join token alone.

    Red when the nodes mount the volume of the others (`secrets:/secrets:ro`).
    """
    names = ("access-key", "secret-key", "join-token", "catalog-url")
    files = stack.compose("exec", "-T", "front-1", "cat", *(f"/secrets/{name}" for name in names))
    secrets = files.split()
    assert [len(secret) for secret in secrets[:2]] == [20, 40]
    password = secrets[3].removeprefix("postgresql://trivet:").partition("@")[0]
    assert len(password) == 48
    assert stack.compose("exec", "-T", "node-1", "ls", "/secrets").split() == ["join-token"]
    containers = stack.engine.docker("ps", "--all", "--quiet", *stack.of_project).split()
    told = stack.engine.docker("inspect", *containers) + stack.compose("logs", "--no-color")
    for secret in (*secrets, password):
        assert secret not in told


@pytest.mark.long
def test_what_one_front_stores_the_other_reads(stack: Stack, kept: list[str]) -> None:
    _read(stack, 1, kept)
    with closing(stack.client(1)) as client:
        listed = client.list_objects_v2(Bucket=BUCKET)
    assert sorted(entry["Key"] for entry in listed["Contents"]) == sorted(kept)


@pytest.mark.long
def test_a_killed_node_is_missed_and_heals(stack: Stack, kept: list[str]) -> None:
    """Reads and writes go on without it, Prometheus says that it is gone, and when it is back, at whatever address,
    every object gets its full redundancy again: the loss of another node then costs nothing.
    """
    stack.compose("kill", "node-2")
    late = [f"late-{number}" for number in range(20)]
    _store(stack, 0, late)
    kept += late
    _read(stack, 1, kept)
    alert = 'count(ALERTS{alertname="TrivetNodeDown", alertstate="firing", node="node-2"})'
    _until(stack, lambda: stack.figure(alert) == 1, "the alert fires")
    stack.compose("start", "node-2")
    _until(stack, lambda: stack.figure(NODES_UP) == 3, "the node is back")
    _until(stack, stack.whole, "every object has its full redundancy")
    _until(stack, lambda: stack.figure(alert) is None, "the alert ends")
    stack.compose("kill", "node-1")
    _read(stack, 0, kept)
    stack.compose("start", "node-1")
    _until(stack, lambda: stack.figure(NODES_UP) == 3 and stack.whole(), "all is whole again")


@pytest.mark.long
def test_either_steward_does_the_work(stack: Stack) -> None:
    """Whichever of the two is killed, the lease is renewed soon."""
    for service in ("steward-1", "steward-2"):
        stack.compose("kill", service)
        _until(stack, lambda: (stack.figure(RENEWALS) or 0) > 0, f"the lease is renewed without {service}")
        stack.compose("start", service)


@pytest.mark.long
def test_down_and_up_again_loses_nothing(stack: Stack, kept: list[str]) -> None:
    """Containers and networks are made anew, the volumes stay."""
    stack.compose("down")
    stack.compose("up", "--detach")
    _until(stack, lambda: stack.health(0) == stack.health(1) == "healthy", "both fronts call it healthy")
    _read(stack, 0, kept)
    _read(stack, 1, kept)
