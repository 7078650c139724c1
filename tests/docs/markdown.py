"""A document as its tests see it: fenced blocks in order, and the comments that say what a test does with them.

Comments stand in HTML, so that no reader sees them, and on a line of their own:

    <!-- not run: REASON -->      before a block of sh: it is parsed and its commands are looked up, and that is all
    <!-- runs on: WORDS -->       before a block of sh: it goes on in another terminal; WORDS in its output, if any
                                  stand here, say that the next block may begin
    <!-- file: PATH -->           before a block in another language: a file with that content
    <!-- ctrl-c -->               anywhere: ends the block begun last of those that run on, as a terminal would
    <!-- host: ADDRESS -->        anywhere: what follows is done on another machine, with files of its own
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
)

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>```+)(?P<language>[a-z]*) *")
_COMMENT = re.compile(r" *<!-- (?P<kind>not run|runs on|file|ctrl-c|host)(?:: (?P<words>.+))? -->")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `kind` and `words` are those of the comment right above it; `kind` is empty without one, `host`
    until the document goes to another machine."""

    line: int
    language: str
    text: str
    kind: str
    words: str
    host: str = ""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ctrl-C in the terminal of the block begun last of those that run on."""

    line: int


def steps(text: str) -> Iterator[Block | Interrupt]:
    """What happens in a document, in order. Raises ValueError for a comment of ours that no block follows."""
    lines = text.splitlines()
    comment: re.Match[str] | None = None
    host = ""
    at = 0
    while at < len(lines):
        line = lines[at]
        fence = _FENCE.fullmatch(line)
        said = _COMMENT.fullmatch(line)
        if fence:
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence["ticks"])
            inside = [one.removeprefix(fence["indent"]) + "\n" for one in lines[at + 1 : end]]
            kind, words = (comment["kind"], comment["words"] or "") if comment else ("", "")
            yield Block(at + 2, fence["language"], "".join(inside), kind, words, host)
            comment = None
            at = end
        elif said and said["kind"] == "ctrl-c":
            yield Interrupt(at + 1)
        elif said and said["kind"] == "host":
            host = said["words"]
        elif said:
            comment = said
        elif line.strip() and comment is not None:
            raise ValueError(f"line {at + 1}: a block must follow the comment above it")
        at += 1


def blocks(text: str) -> list[Block]:
    return [step for step in steps(text) if isinstance(step, Block)]


def prose(text: str) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", text)


def anchors(text: str) -> set[str]:
    """The names that links within the document may have, made of its headings as GitHub does."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
