"""What compose hands to the admin API: settings without secrets, and the way to the supervisor."""

from __future__ import annotations

import asyncio
from pathlib import Path

from compose import control
from compose.admin_services import in_force, settle
from compose.control import ControlServer, Reply
from compose.data_dir import DataDir
from compose.settings import Settings, table


def test_all_settings_are_told_but_no_password() -> None:
    """Red when a URL is told as it is, for traces may go to http://user:password@host; and when a setting that is a
    secret is told at all.
    """
    settings = Settings(
        trace_url="http://me:secret@host:4318/v1",
        catalog="postgresql://me:secret@host/trivet",
        join_token="trivet1.secret",
    )
    told = {setting.name: setting for setting in in_force(settings)}
    assert "secret" not in repr(list(told.values())).replace(told["join_token"].help, "")
    assert (told["catalog"].value, told["join_token"].value) == ("(set)", "(set)")
    assert list(told) == list(table())
    assert told["trace_url"].value == "http://***@host:4318/v1"
    assert (told["port"].value, told["port"].default, told["port"].env) == ("9000", "9000", "TRIVET_PORT")
    assert told["domains"].value == "localhost"


async def test_the_supervisor_is_told_and_its_words_come_back(tmp_path: Path) -> None:
    """While it hears; a store that was started otherwise is changed all the same, with a note."""
    place = DataDir(tmp_path)
    place.run.mkdir()
    heard = 0

    async def refresh(_process: str) -> Reply:
        nonlocal heard
        heard += 1
        return Reply(["node-9 did not start"])

    async with ControlServer(place.control, {control.REFRESH: refresh}):
        assert await asyncio.to_thread(settle, place) == ["node-9 did not start"]
    assert heard == 1
    notes = await asyncio.to_thread(settle, place)
    assert len(notes) == 1
    assert "no `trivet up` runs here" in notes[0]


async def test_a_supervisor_that_says_nothing_is_a_note_too(tmp_path: Path) -> None:
    """Red when the timeout gets out: the change is committed by then, and 500 would say it is not."""
    place = DataDir(tmp_path)
    place.run.mkdir()
    silent = asyncio.Event()

    async def refresh(_process: str) -> Reply:
        await silent.wait()
        return Reply()

    async with ControlServer(place.control, {control.REFRESH: refresh}):
        notes = await asyncio.to_thread(settle, place, 0.2)
    assert len(notes) == 1
    assert "has not said yet" in notes[0]
