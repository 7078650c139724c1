"""What docs/backup.md says about losing and restoring a catalog, done to a store."""

from __future__ import annotations

from pathlib import Path

from tests.docs.terminal import perform


def test_what_the_page_says_can_be_done(tmp_path: Path) -> None:
    """Red when the catalog that comes back is one from before the object was written."""
    perform("docs/backup.md", tmp_path)
