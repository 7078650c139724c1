"""Our own suite of S3 behaviour, against our own store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.system.conftest import ON_POSTGRESQL, ROOT, Store, own_environment

DAY_S = "1"
SUITE = (sys.executable, "-m", "conformance.suite")
SOME = (
    "test_the_list_comes_in_pages_in_order test_of_an_upload_a_checksum_of_checksums "
    "test_no_update_is_lost_between_writers test_many_deletes_with_an_etag_each test_several_of_a_kind "
    "test_a_copy_outlives_its_source test_a_rename_moves_the_object test_the_default_of_a_bucket "
    "test_rules_are_told_as_they_were_given test_one_page test_such_a_bucket_keeps_versions "
    "test_nobody_bypasses_compliance test_several_completes_at_once_make_one_object test_uploads_are_listed_in_pages "
    "test_many_keys_are_deleted_at_once test_the_last_write_is_read test_an_object_is_written_read_and_removed "
    "test_tags_of_a_version test_pages_show_every_version_once test_suspended_a_delete_leaves_a_null_marker"
).split()
"""At least one of each area that the catalog has to do with."""


def passed(store: Store, *options: str) -> int:
    """How many tests of the suite did; none may fail, and none be skipped."""
    keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
    done = subprocess.run(
        [*SUITE, "--endpoint", store.endpoint, *options],
        cwd=ROOT,
        env=own_environment(keys),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "all"
    count, failed, skipped = (int(cell.replace(",", "")) for cell in last[1:4])
    assert (failed, skipped) == (0, 0), done.stdout
    return count


@pytest.mark.timeout(300)
def test_everything_of_the_suite_passes(new_store: Callable[..., Store]) -> None:
    """None fails and none is skipped: our store has what AWS has in directory buckets only, and its days are short.

    Red when one operation answers otherwise than AWS's documentation says: the output names the tests.
    """
    store = new_store(environment={"TRIVET_LIFECYCLE_DAY_S": DAY_S})
    store.start()
    assert passed(store, "--day-s", DAY_S) > 400


if ON_POSTGRESQL:  # on the file catalog the test above has shown it already

    def test_some_of_each_area_passes(store: Store) -> None:
        """For the short run of tests on PostgreSQL (test_postgres_store.py)."""
        assert passed(store, "-k", " or ".join(SOME)) >= len(SOME)
