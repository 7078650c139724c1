"""Settings shared by all tests: hypothesis is derandomized so that every run is the same run. And the server that
tests on PostgreSQL share."""

import os
from collections.abc import Iterator

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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One for each process of tests, started by the first test that wants it; each test has a database of its own
    (`tests.postgres.new_database`). For tests that leave it running."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
