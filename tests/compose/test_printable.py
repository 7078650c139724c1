"""What S3 clients made up, on the terminal of the one who looks at it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cluster.reports.blob_uses import USED, BlobUsesReport, UseReport
from cluster.reports.verify_report import BadObject, VerifyReport
from compose.cli.object_view import blob_drawing
from compose.cli.verify_view import lines
from compose.printable import printable

KEY = "a\x1b[2J\x9b2J\x85\u2028\n\x00b é\t✓"
SHOWN = "a\\x1b[2J\\x9b2J\\x85\\u2028\\n\\x00b é\t✓"


def test_only_what_commands_or_ends_a_line_is_escaped() -> None:
    assert printable(KEY) == SHOWN
    assert printable("naïve/ключ/鍵 [bold]x[/]") == "naïve/ключ/鍵 [bold]x[/]"


def _drawn() -> str:
    use = UseReport("bucket", KEY, None, True, 0, None)
    report = BlobUsesReport("ab" * 16, USED, 1, 0, [use], False, True, 1, None)
    text = io.StringIO()
    Console(file=text, force_terminal=True, color_system=None, width=200).print(blob_drawing(report))
    return text.getvalue()


def _listed() -> str:
    bad = BadObject("bucket", KEY, None, 0, None, "ab" * 16, "unreadable", 2, 0, 0)
    report = VerifyReport(
        None, True, False, 1.0, 1, 3, 4096, 2, 0, 0, [], 1, 1, [bad], False, queued_blobs=1, unqueued_blobs=0
    )
    return "\n".join(lines(report))


@pytest.mark.parametrize("shown", [_drawn, _listed])
def test_an_objects_name_cannot_command_the_terminal(shown: object) -> None:
    """Red when `trivet object of` and `trivet verify` print a key as it is: it could clear the screen, and show what it
    likes."""
    text = shown()  # type: ignore[operator]
    assert "bucket/a\\x1b[2J\\x9b2J\\x85\\u2028\\n\\x00b" in text
    assert not {"\x1b", "\x9b", "\x85", "\x00"} & set(text)
