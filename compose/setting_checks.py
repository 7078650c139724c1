"""What is refused of settings beyond single values: one half of two, and variables that are misspelt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from compose.refusal import StartRefused

if TYPE_CHECKING:
    from compose.settings import Settings

PREFIX = "TRIVET_"
_LONG = 8
"""A name of so many letters may have two mistakes in it."""


def refuse_halves(settings: Settings, sources: Mapping[str, str]) -> None:
    """Raises StartRefused for a setting that says nothing without another one."""
    if settings.advertise and not settings.listen:
        raise StartRefused(
            f"{sources['advertise']} says where others reach a node, but not where it listens: set TRIVET_LISTEN "
            "(or --listen HOST:PORT) too"
        )
    if settings.join and not settings.join_token:
        raise StartRefused(
            f"{sources['join']} is set, but there is no join token: set TRIVET_JOIN_TOKEN_FILE to a file with what "
            "`trivet token` prints where the cluster was founded"
        )


def refuse_misspelt(variables: Iterable[str], known: Collection[str]) -> None:
    """Raises StartRefused for a variable that is almost one of ours: it would be in force nowhere, and nobody would
    notice. Others set variables that begin like ours too, as Kubernetes does for a service called trivet: those are
    told of, and no more (see compose.variables).
    """
    for name in sorted(variables):
        meant = misspelt(name, known) if name.startswith(PREFIX) and name not in known else None
        if meant is not None:
            raise StartRefused(f"{name} is no setting of Trivet: write {meant}, or unset it")


def misspelt(name: str, known: Iterable[str]) -> str | None:
    """The known variable that must be meant."""
    plain = name.removeprefix(PREFIX)
    mistakes_max = 2 if len(plain) >= _LONG else 1
    near = [(_mistakes(plain, other.removeprefix(PREFIX)), other) for other in known]
    mistakes, meant = min(near, default=(mistakes_max + 1, ""))
    return meant if mistakes <= mistakes_max else None


def _mistakes(one: str, other: str) -> int:
    """Letters left out, added, exchanged, or changed places with their neighbours."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, its in enumerate(other, 1):
            fewest = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != its))
            if i > 1 and j > 1 and (letter, one[i - 2]) == (other[j - 2], its):
                fewest = min(fewest, before[j - 2] + 1)
            row.append(fewest)
        before, last = last, row
    return last[-1]
