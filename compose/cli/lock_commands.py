"""``trivet lock-clock …``: the clock that says when object lock ends (S26)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from compose.cli.store_access import AsJson, Data, answer, settings_of, with_catalog, write_catalog
from compose.refusal import CommandRefused

if TYPE_CHECKING:
    from catalog.engine import Catalog
    from catalog.lock_clock import LockClock

lock_clock_app = typer.Typer(
    no_args_is_help=True, help="The clock that says when the retention of locked objects ends."
)

_SECOND_MS = 1000
_BEHIND_MS_SHOWN = 60_000
"""The clock is advanced in steps: less than this is no difference worth a word."""


@lock_clock_app.command()
def show(*, data: Data = None, as_json: AsJson = False) -> None:
    """Show the lock clock beside the wall clock of this machine."""
    seen = with_catalog(settings_of(data), _seen)
    answer(_facts(seen), _words(seen), as_json=as_json)


@lock_clock_app.command()
def confirm(
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="the wall clock of this machine is right: do it")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Set the lock clock forward to the wall clock of this machine, however far.

    Locked objects whose retention has ended by then can be deleted from that moment on. It can't be undone: the lock
    clock never goes back.
    """
    from catalog import lock_clock

    settings = settings_of(data)
    if not yes:
        seen = with_catalog(settings, _seen)
        raise CommandRefused(f"{_words(seen)}\nif this wall clock is right: trivet lock-clock confirm --yes")
    before = write_catalog(settings, lock_clock.confirm)
    moved_ms = max(0, before.behind_ms)
    answer(
        {"moved_s": moved_ms // _SECOND_MS},
        f"the lock clock was set forward by {_length(moved_ms)}"
        if moved_ms
        else "the lock clock shows no less than the wall clock: nothing was changed",
        as_json=as_json,
    )


async def _seen(catalog: Catalog) -> LockClock:
    from catalog.engine import wall_clock_ms
    from catalog.lock_clock import LockClock
    from catalog.transaction import read_meta

    meta = await catalog.read(read_meta)
    return LockClock(meta.clock_ms, wall_clock_ms())


def _facts(seen: LockClock) -> dict[str, object]:
    from cluster.reports.moments import iso_at

    return {
        "lock_clock": iso_at(seen.clock_ms),
        "wall_clock": iso_at(seen.wall_ms),
        "behind_s": seen.behind_ms // _SECOND_MS,
        "needs_confirmation": seen.needs_confirmation,
    }


def _words(seen: LockClock) -> str:
    facts = _facts(seen)
    words = f"lock clock  {facts['lock_clock']}\nwall clock  {facts['wall_clock']}\n"
    if seen.needs_confirmation:
        return words + (
            f"the lock clock is {_length(seen.behind_ms)} behind, more than it follows by itself: until that is "
            "confirmed, locked objects stay locked for so much longer (trivet lock-clock confirm)"
        )
    if seen.behind_ms > _BEHIND_MS_SHOWN:
        return words + f"{_length(seen.behind_ms)} behind: it follows when the store is started"
    if seen.behind_ms < -_BEHIND_MS_SHOWN:
        return (
            words
            + f"the wall clock is {_length(-seen.behind_ms)} behind the lock clock, which never goes back"
        )
    return words + "they agree"


def _length(ms: int) -> str:
    hours, minutes = divmod(ms // 60_000, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{ms // 1000} s"
