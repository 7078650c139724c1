"""How the commands write figures for people."""

from __future__ import annotations


def size_text(nbytes: float) -> str:
    """Four digits at most, and the unit: powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def length_text(seconds: float) -> str:
    """A length of time in its two largest units."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    return f"{minutes}m {int(seconds) % 60}s" if minutes else f"{int(seconds)}s"


def ms_text(ms: float) -> str:
    """Three digits that matter, without the unit: the column's heading or the caption has it."""
    return f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"


def rate_text(per_second: float) -> str:
    """Without the unit."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"


def count_text(number: int, what: str) -> str:
    """``1 blob``, ``1,234 blobs``"""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def found_text(*counts: tuple[int, str]) -> str:
    """``3 missing, 1 corrupt``: of what there is none nothing is said."""
    return ", ".join(f"{count:,} {word}" for count, word in counts if count)
