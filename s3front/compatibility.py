"""docs/s3-compatibility.md, written from the table of operations so that it can't drift (make docs)."""

from __future__ import annotations

from collections.abc import Iterator

from s3front.operation import Operation, Support
from s3front.operations import OPERATIONS

REFERENCE = "https://docs.aws.amazon.com/AmazonS3/latest/API/API_{}.html"

HEAD = """# What of S3 there is

Written by `make docs` from the table of operations (`s3front/operations.py`). Every operation of AWS's service model is
in it: {done} are done, {stored} keep a configuration that nothing acts on, {refused} are refused.

Requests that mean an operation below are never taken for another one: what is refused changes nothing.
"""

SECTIONS: dict[Support, tuple[str, str]] = {
    "done": ("Done", "They do what the API reference says. What is left out stands beside them."),
    "stored": (
        "Stored only",
        "The configuration is checked against AWS's schema, kept, and handed back as it was sent, so that tools which "
        "put and then poll are content. **Nothing acts on it.** Where there is none, the answer is AWS's.",
    ),
    "refused": ("Refused", "The answer is an error of AWS's, mostly `NotImplemented` (501)."),
}


def document() -> str:
    """The whole text."""
    counts = {support: len(list(_rows(support))) for support in SECTIONS}
    parts = [HEAD.format(**counts)]
    for support, (title, about) in SECTIONS.items():
        parts.append(f"## {title}\n\n{about}\n\n| operation | | |\n| --- | --- | --- |")
        parts.extend(_line(row) for row in sorted(_rows(support), key=lambda row: row.name))
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _rows(support: Support) -> Iterator[Operation]:
    return (row for row in OPERATIONS if row.support == support)


def _line(row: Operation) -> str:
    notes = [row.note, f"Also in its earlier form, {row.old_name}." if row.old_name else ""]
    told = " ".join(note for note in notes if note).replace("|", "\\|")
    return f"| [{row.name}]({REFERENCE.format(row.name)}) | `{_request(row)}` | {told} |"


def _request(row: Operation) -> str:
    """As the reader of a log sees it."""
    path = {"service": "/", "bucket": "/bucket", "object": "/bucket/key"}[row.target]
    query = "&".join(name for name in (row.subresource, row.parameter) if name)
    header = f" ({row.header})" if row.header else ""
    return f"{row.method} {path}{'?' + query if query else ''}{header}"
