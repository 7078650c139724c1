"""A catalog's database that is away when processes and commands start, and `trivet doctor` and `restored` on one."""

import asyncio
import math
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from catalog.engine import Catalog
from catalog.errors import CatalogBusy
from compose import catalog_reach, wiring
from compose.catalog_reach import when_reached
from compose.checks import store
from compose.checks.finding import Finding, Subject
from compose.cli.commands import app
from compose.data_dir import DataDir
from compose.init_store import init_store
from compose.refusal import StartRefused
from compose.settings import Settings
from tests.postgres import PostgresServer, empty_database, new_database


def _nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"postgresql://trivet:hidden-word@127.0.0.1:{taken.getsockname()[1]}/trivet"


async def test_a_process_waits_for_its_database(
    postgres_server: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As long as it takes, and says so. Red when the first refusal ends it: a host that starts before its database
    would stay down, or be started again and again."""
    monkeypatch.setattr(catalog_reach, "_PAUSE_S", 0.01)
    url = new_database(postgres_server)
    tries = []
    opened = Catalog.open

    def away_at_first(*arguments: object, **more: object) -> object:
        tries.append(arguments)
        if len(tries) < 4:
            raise CatalogBusy("the catalog's database is out of reach")
        return opened(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Catalog, "open", away_at_first)
    async with wiring.opened_catalog(Settings(data=tmp_path, catalog=url), wait_s=math.inf) as catalog:
        assert (await catalog.meta()).term
    assert len(tries) == 4
    assert caplog.text.count("waiting for the catalog at postgresql://trivet@127.0.0.1") == 3


async def test_a_wait_that_is_bounded_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For a command. Red when the pauses are not counted."""
    monkeypatch.setattr(catalog_reach, "_PAUSE_S", 0.05)
    with pytest.raises(StartRefused, match="out of reach"):
        async with (
            asyncio.timeout(5.0),
            wiring.opened_catalog(Settings(data=tmp_path, catalog=_nobody()), 0.3),
        ):
            pass


async def test_a_wait_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """By SIGTERM, which cancels it."""
    monkeypatch.setattr(catalog_reach, "_PAUSE_S", 600.0)
    asked = threading.Event()

    def ask() -> None:
        asked.set()
        raise CatalogBusy("away")

    waiting = asyncio.create_task(when_reached(ask, _nobody(), math.inf))
    await asyncio.to_thread(asked.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_init_says_that_the_database_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment, in one line, without the password."""
    monkeypatch.setattr("compose.init_store.COMMAND_WAIT_S", 0.1)
    with pytest.raises(StartRefused, match="out of reach") as told:
        init_store(Settings(data=tmp_path, catalog=_nobody()), {})
    assert "hidden-word" not in str(told.value)


def _doctor(tmp_path: Path, url: str) -> list[Finding]:
    settings = replace(Settings(data=tmp_path), catalog=url)
    subject = Subject(settings, DataDir(tmp_path), {}, {}, {})
    assert subject.founded
    return store.catalog_of(subject).findings


def test_the_doctor_looks_at_a_database(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """What it is and whether it can serve, with what to do. Red when a file is looked for."""
    url = new_database(postgres_server)
    (well,) = _doctor(tmp_path, url)
    assert (well.state, well.do) == ("ok", "")
    assert "PostgreSQL" in well.detail
    assert "UTF8" in well.detail
    name = url.rsplit("/", 1)[1]
    postgres_server.execute("UPDATE meta SET clock_ms = clock_ms + 3600000", database=name)
    assert [finding.check for finding in _doctor(tmp_path, url)] == ["catalog", "clock"]
    for revision, state in (("0004", "warn"), ("9999", "bad")):
        postgres_server.execute(f"UPDATE alembic_version SET version_num = '{revision}'", database=name)
        (other,) = _doctor(tmp_path, url)
        assert other.state == state
        assert revision in other.detail
    (none,) = _doctor(tmp_path, empty_database(postgres_server))
    assert (none.state, "trivet init" in none.do) == ("bad", True)
    (ascii_only,) = _doctor(tmp_path, empty_database(postgres_server, encoding="SQL_ASCII"))
    assert (ascii_only.state, "UTF8" in ascii_only.detail) == ("bad", True)
    (away,) = _doctor(tmp_path, _nobody())
    assert away.state == "bad"
    assert "refused" in away.detail
    assert "hidden-word" not in away.detail + away.do


def test_a_restored_database_is_told_by_command(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do next; for a file there is another command."""
    url = new_database(postgres_server)
    monkeypatch.setenv("TRIVET_CATALOG", url)
    done = CliRunner().invoke(app, ["catalog", "restored", "--data", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "trivet orphans allow" in done.output
    term = postgres_server.execute(
        "SELECT term FROM meta WHERE orphans_allowed = 0", database=url.rsplit("/", 1)[1]
    )
    assert term[0][0] > 1 << 32  # type: ignore[operator]
