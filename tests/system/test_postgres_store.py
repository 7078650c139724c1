"""The S3 tests on a store with two fronts whose catalog is a real PostgreSQL: the same tests, run once more with
TRIVET_TEST_CATALOG=postgresql (conftest.py). Some of each kind here; all of them with `make test-long`, or by hand:

    TRIVET_TEST_CATALOG=postgresql make test ARGS=tests/system
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import required_binaries
from tests.system.conftest import ON_POSTGRESQL, ROOT, own_environment

FOLDER = Path(__file__).parent
ELSEWHERE = {
    "test_bench.py": "makes stores as people do, without a database",
    "test_catalog_restore.py": "about a catalog that is a file",
    "test_hosts.py": "has its own way to both",
    "test_postgres_store.py": "this one",
    "test_units.py": "about units of systemd",
}
SOME = (
    "test_conformance.py::test_some_of_each_area_passes",
    "test_objects.py::test_bytes_come_back_exactly",
    "test_objects.py::test_conditional_writes",
    "test_objects.py::test_copy_directives",
    "test_objects.py::test_delete_objects_reports_each_key",
    "test_objects.py::test_bucket_lifecycle",
    "test_multipart.py::test_parts_become_one_object",
    "test_multipart.py::test_completing_at_once_makes_one_version",
    "test_multipart.py::test_copied_parts",
    "test_multipart.py::test_lists_of_parts_and_uploads",
    "test_append.py::test_several_writers_lose_no_piece",
    "test_versioning.py::test_a_bucket_is_emptied_page_by_page",
    "test_versioning.py::test_a_rename_leaves_a_marker_and_keeps_every_version",
    "test_tagging.py::test_each_version_has_tags_of_its_own",
    "test_configurations.py::test_lists_have_pages",
    "test_bad_input.py::test_odd_keys_are_kept_as_they_are",
    "test_bad_input.py::test_key_lengths",
    "test_authentication.py::test_presigned_get_and_put",
)

pytestmark = pytest.mark.skipif(ON_POSTGRESQL, reason="starts what runs already")


def run(*words: str) -> None:
    """Skipped where there is no server. Red with what pytest said when a test failed, or was not found."""
    required_binaries()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *words],
        cwd=ROOT,
        env=own_environment({"TRIVET_TEST_CATALOG": "postgresql"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_some_tests_of_each_kind_on_postgresql() -> None:
    """With one store for all of them. Red with READ COMMITTED in the place of SERIALIZABLE (updates of two fronts
    are answered InternalError), and when a front keeps its configuration without asking for the generation."""
    run(*(str(FOLDER / name) for name in SOME))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_all_tests_on_postgresql() -> None:
    """All but those that ELSEWHERE names, the long ones too."""
    files = [path for path in sorted(FOLDER.glob("test_*.py")) if path.name not in ELSEWHERE]
    run(*map(str, files), "-m", "long or not long", "--timeout", "600")
