"""What all tests share: hypothesis is derandomized so that every run is the same run; how tests are spread over
processes; and the server of those on PostgreSQL."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import PostgresServer

settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile(
    "long", derandomize=False, deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

_FIRST = ("system", "docs", "chaos", "model", "hosts", "compose_stack", "crash", "sim", "upgrade")
"""Folders of tests that run whole stores, or worlds."""
_LONG_TIMEOUT_S = 600.0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one more than there are cores, since tests of whole stores wait for much of their time."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that no process ends alone with one while the others have nothing left. And
    a long test may take more than one of `make test`."""
    items.sort(key=_turn)
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_LONG_TIMEOUT_S))


def _turn(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One for each process of tests, started by the first test that wants it; each test has a database of its own
    (`tests.postgres.new_database`). For tests that leave it running: nothing but a power cut would tell whether it
    syncs, so that it does not."""
    server = PostgresServer(settings=("fsync=off",))
    try:
        server.start()
        yield server
    finally:
        server.close()
