"""docs/api.md is what the endpoints say today."""

from __future__ import annotations

import re

from compose.api_document import COMPATIBILITY_PATH, PATH, document
from s3front import compatibility
from s3front.admin.api import ENDPOINTS
from s3front.operations import OPERATIONS


def test_the_document_is_current() -> None:
    """Red when an endpoint or a type changed and `make docs` was not run."""
    assert PATH.read_text() == document(), "make docs"


def test_it_names_every_endpoint_and_every_type_it_refers_to() -> None:
    """Links that lead nowhere would be found by readers only."""
    text = document()
    for endpoint in ENDPOINTS:
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", endpoint.path)
        assert f"### {endpoint.method} {path}\n" in text
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= headings
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (4, 5) for line in tables), "a cell with a bar in it"


def test_the_list_of_what_is_supported_is_current() -> None:
    """Red when a row of the table of operations changed and `make docs` was not run."""
    assert COMPATIBILITY_PATH.read_text() == compatibility.document(), "make docs"


def test_it_has_one_line_for_each_operation() -> None:
    """With its reason where it is not done."""
    text = compatibility.document()
    lines = [line for line in text.splitlines() if line.startswith("| [")]
    assert len(lines) == len(OPERATIONS)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines), "a cell with a bar in it"
    for row in OPERATIONS:
        (line,) = [line for line in lines if line.startswith(f"| [{row.name}](")]
        assert row.note in line
