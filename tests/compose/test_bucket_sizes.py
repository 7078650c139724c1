"""Sizes as people write them for a quota."""

import pytest

from compose.cli.bucket_commands import bytes_of
from compose.refusal import CommandRefused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("10GiB", 10 << 30),
        ("10 gib", 10 << 30),
        ("10GB", 10**10),
        ("1.5 KiB", 1536),
        ("0.3KB", 300),
        ("1.001 KB", 1001),
        ("7B", 7),
        ("1 PiB", 1 << 50),
    ],
)
def test_a_size_is_read_exactly(text: str, expected: int) -> None:
    """Whole numbers all the way. Red with floats: 1.001 KB was 1000 bytes."""
    assert bytes_of(text) == expected


@pytest.mark.parametrize(
    "text", ["", "ten", "-1", "10G", "1e9", "10 GiB more", "1..5GB", "GiB", "1,000", "\u0663"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    """`10G` too: nobody can tell which of two it means."""
    with pytest.raises(CommandRefused, match="write it like 10GiB"):
        bytes_of(text)
