"""Where a store's catalog is: a file of the data directory, or a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

from compose.data_dir import DataDir
from compose.settings import Settings

_SECRET_PARAMETERS = {"password", "sslpassword", "passfile", "sslkey"}


def catalog_of(settings: Settings) -> Path | str:
    """A Path is an embedded catalog's file, which need not be there; a str is a database's URL, with its
    password."""
    return settings.catalog or DataDir(settings.data).catalog


def describe(where: Path | str) -> str:
    """What logs and people may see of it: a URL without its password."""
    if isinstance(where, Path):
        return str(where)
    scheme, _, rest = where.partition("://")
    before, _, query = rest.partition("?")
    if "@" in query:
        return f"{scheme}://…"  # an unescaped ? in the password, perhaps
    # libpq takes several hosts, with commas between them: the login ends at the last @.
    login, at, place = before.rpartition("@")
    told = [pair for pair in query.split("&") if pair and pair.partition("=")[0] not in _SECRET_PARAMETERS]
    return f"{scheme}://{login.partition(':')[0]}{at}{place}" + ("?" if told else "") + "&".join(told)
