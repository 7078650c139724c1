"""Where the catalog is, and what may be told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.catalog_place import catalog_of, describe
from compose.settings import Settings


def test_a_file_of_the_data_directory_or_a_database() -> None:
    assert catalog_of(Settings(data=Path("/srv/d"))) == Path("/srv/d/catalog.sqlite")
    assert catalog_of(Settings(catalog="postgresql://h/d")) == "postgresql://h/d"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:hush@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://u:hush@h1:1,h2:2/d?target_session_attrs=read-write", None),
        ("postgresql:///d?host=/run/pg&user=u&password=hush", "postgresql:///d?host=/run/pg&user=u"),
        ("postgresql://u:hu@sh@h/d", "postgresql://u@h/d"),
        ("postgresql://u:hu/sh@h/d", "postgresql://u@h/d"),
        ("postgresql://u:hush?x@h/d", "postgresql://…"),
        ("postgresql://h/d", "postgresql://h/d"),
    ],
)
def test_a_url_is_told_without_its_password(url: str, told: str | None) -> None:
    """Red when the password is looked for in one place only: libpq takes it in two."""
    assert describe(url) == (told or url.replace(":hush@", "@"))
    assert "hush" not in describe(url)
    assert describe(Path("/d/catalog.sqlite")) == "/d/catalog.sqlite"
