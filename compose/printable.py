"""Text that others made up, as it may stand on a line of a log or of a terminal: it stays on its line and commands
nothing. S3 clients choose the names of objects, and somebody looks at them.
"""

from __future__ import annotations

from typing import Final

# C0, DEL, C1 and the two separators that Unicode adds. A tab does no harm.
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\t", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ESCAPED: Final = {**_CONTROL, **{ord(character): text for character, text in _NAMED.items()}}


def printable(text: str) -> str:
    """With escapes for what ends a line or commands a terminal; all else as it is."""
    return text.translate(_ESCAPED)
