"""What `trivet restart` waits for after a node, before the next one may go."""

from __future__ import annotations

import fcntl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from catalog.errors import CatalogBusy
from compose import restarting
from compose.control import Reply
from compose.refusal import StartRefused
from compose.restarting import FOLLOWED_S, LINKS_S_MAX, WHOLE_S_MAX, Sight, restarted_node
from compose.settings import Settings

WELL = Sight(up=True, connections=4, short_blobs=0)


class Seen:
    """A store that looks so, one look after the other, and stays as it is last; a second passes with each pause."""

    def __init__(self, *sights: Sight | Exception) -> None:
        self._sights: Sequence[Sight | Exception] = sights
        self.looks = 0
        self.now_s = 0.0
        self.restarts = 0

    async def look(self) -> Sight:
        sight = self._sights[min(self.looks, len(self._sights) - 1)]
        self.looks += 1
        if isinstance(sight, Exception):
            raise sight
        return sight

    async def once(self) -> str:
        self.restarts += 1
        return ""

    async def pause(self, _s: float) -> None:
        self.now_s += 1.0

    async def restarted(self, once: Callable[[], Awaitable[str]] | None = None) -> str:
        return await restarted_node(
            self.look, once or self.once, "node-1", clock=lambda: self.now_s, pause=self.pause
        )


async def test_it_waits_until_everybody_knows() -> None:
    """A front whose list of nodes is half a second old would not write to the node. Red (writes answered 503 in
    tests/system/test_hosts.py) when the next one went at the first good look."""
    seen = Seen(WELL)
    assert await seen.restarted() == ""
    assert seen.restarts == 1
    assert FOLLOWED_S <= seen.now_s <= FOLLOWED_S + 1


@pytest.mark.parametrize(
    "not_yet",
    [
        WELL._replace(up=False),
        WELL._replace(connections=3),
        WELL._replace(short_blobs=1),
        CatalogBusy("it is being written"),
    ],
)
async def test_the_next_one_waits(not_yet: Sight | Exception) -> None:
    """For the node, for its links, for what was written without it, and for a catalog that is busy. Red for each of
    them when it was left out of the condition."""
    seen = Seen(WELL, WELL, *[not_yet] * 4, WELL)
    assert await seen.restarted() == ""
    assert 5 + FOLLOWED_S <= seen.now_s <= 6 + FOLLOWED_S


async def test_what_was_short_before_is_not_waited_for() -> None:
    """A node that is lost for good stands in nobody's way."""
    seen = Seen(WELL._replace(short_blobs=7), WELL._replace(short_blobs=9), WELL._replace(short_blobs=7))
    assert await seen.restarted() == ""
    assert 1 + FOLLOWED_S <= seen.now_s <= 2 + FOLLOWED_S


async def test_a_connection_that_does_not_come_back_is_given_up() -> None:
    """It may have been that of a command."""
    seen = Seen(WELL, WELL._replace(connections=3))
    assert await seen.restarted() == ""
    assert LINKS_S_MAX < seen.now_s - FOLLOWED_S <= LINKS_S_MAX + 2


async def test_there_is_an_end_to_it() -> None:
    seen = Seen(WELL, WELL._replace(short_blobs=1))
    assert "node-1 was restarted, and after" in await seen.restarted()
    assert WHOLE_S_MAX < seen.now_s <= WHOLE_S_MAX + 1


async def test_a_node_that_does_not_come_back_ends_it() -> None:
    async def in_vain() -> str:
        return "node-1 does not come back"

    seen = Seen(WELL)
    assert await seen.restarted(in_vain) == "node-1 does not come back"
    assert seen.looks == 1


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they could take two nodes away."""
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(restarting, "_told", lambda *_: Reply(processes=["node-1"]))
    with (tmp_path / "run" / "restart.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(StartRefused, match="another"):
            restarting.restart(Settings(data=tmp_path), lambda _name: None)
