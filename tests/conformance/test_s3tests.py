"""How ceph/s3-tests is run: which tests are portable, what area they are of, and a whole run of a small suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.s3tests.areas import area_of
from conformance.s3tests.selection import BadSelection, read_selection
from tests.system.conftest import ROOT

SUITE = """
import pytest

@pytest.mark.fails_on_aws
def test_of_another_kind(): raise AssertionError

def test_bucket_acl_one(): pass

@pytest.mark.tagging
def test_two(): assert 1 == 2, "because"

def test_multipart_three(left): pass

def test_list_buckets_paginated(): pass

def test_versioning_four(): pytest.skip("not with the prefix " + functional.prefix)
"""
PACKAGE = """
import pytest

prefix = "first"
def choose_bucket_prefix(template): return "second"

@pytest.fixture
def left():
    yield
    raise RuntimeError("something is left")
"""


def test_what_is_deselected_has_a_reason() -> None:
    selection = read_selection()
    assert selection.reason_against("test_x", ["versioning"]) is None
    assert "fails_on_aws" in (selection.reason_against("test_x", ["tagging", "fails_on_aws"]) or "")
    assert all(reason.strip() for reason in (*selection.markers.values(), *selection.tests.values()))


@pytest.mark.parametrize("text", ['[tests]\ntest_x = ""', "[tests]\ntest_x = 1", "[excluded]\n"])
def test_a_test_without_a_reason_is_refused(tmp_path: Path, text: str) -> None:
    """Red when the check of reasons is left out."""
    path = tmp_path / "deselected.toml"
    path.write_text(text)
    with pytest.raises(BadSelection):
        read_selection(path)


@pytest.mark.parametrize(
    ("name", "markers", "area"),
    [
        *(("test_post_object_upload_checksum", (), "post"), ("test_versioned_object_acl", (), "acl")),
        *(("test_bucket_policy_acl", (), "policy"), ("test_copy_enc[a-b-1]", (), "sse")),
        *(("test_x", ("lifecycle",), "lifecycle"), ("test_atomic_read_1mb", (), "objects")),
        *(("test_bucket_listv2_many", (), "listing"), ("test_object_create_bad_md5_bad", (), "headers")),
    ],
)
def test_areas(name: str, markers: tuple[str, ...], area: str) -> None:
    assert area_of(name, markers) == area


def test_what_the_recorder_writes(tmp_path: Path) -> None:
    """A small suite in the shape of s3-tests: one line for each test, deselected ones with their reason, and what one
    test left behind gives the next another prefix. Red when the prefix stays as it is.
    """
    folder = tmp_path / "s3tests" / "functional"
    folder.mkdir(parents=True)
    (tmp_path / "s3tests" / "__init__.py").touch()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "test_s3.py").write_text("from s3tests import functional\nfrom . import left\n" + SUITE)
    (folder / "test_headers.py").write_text("def test_object_create_bad_x(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  fails_on_aws\n  tagging\n")
    out = tmp_path / "results.jsonl"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "conformance.s3tests.recorder",
        "-p",
        "no:cacheprovider",
    ]
    words += ["-c", str(tmp_path / "pytest.ini"), f"--conformance-out={out}", "test_s3.py", "test_headers.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    for group in (
        ["--conformance-group=together", "--conformance-deselected"],
        ["--conformance-group=alone"],
    ):
        done = subprocess.run([*words, *group], cwd=folder, env=environment, capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stdout
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(each["test"].partition("::")[2], each["area"], each["kind"]) for each in told] == [
        ("test_of_another_kind", "objects", "deselected"),
        ("test_bucket_acl_one", "acl", "passed"),
        ("test_two", "tagging", "failed"),
        ("test_multipart_three", "multipart", "passed"),
        ("test_multipart_three", "multipart", "failed"),
        ("test_versioning_four", "versioning", "skipped"),
        ("test_object_create_bad_x", "headers", "passed"),
        ("test_list_buckets_paginated", "buckets", "passed"),
    ]
    reasons = {each["kind"]: each["reason"] for each in told}
    assert reasons["skipped"] == "not with the prefix second"
    assert reasons["failed"] == "teardown: RuntimeError: something is left"
    assert "because" in told[2]["reason"]
