"""Draws docs/pictures/terminal.svg: what commands of README really say, in a terminal made for it.

python -m tests.docs.pictures
"""

from __future__ import annotations

import re
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.docs.markdown import ROOT
from tests.docs.terminal import Terminal

PICTURE = ROOT / "docs/pictures/terminal.svg"
COLUMNS, OBJECTS = 100, 1500
BEFORE = f"""
export AWS_SHARED_CREDENTIALS_FILE=/srv/trivet/credentials AWS_PROFILE=trivet TRIVET_DATA=/srv/trivet
export AWS_ENDPOINT_URL=http://127.0.0.1:9000 AWS_REGION=us-east-1 COLUMNS={COLUMNS} FORCE_COLOR=1 TERM=xterm-256color
mkdir pictures; for n in $(seq {OBJECTS}); do head -c 40000 /dev/urandom > pictures/$n.jpg; done
aws s3 mb s3://photos; aws s3 cp --recursive --quiet pictures s3://photos/2026; echo "three legs" > hello.txt
aws s3 cp hello.txt s3://photos/2026/
"""
SHOWN = (
    "trivet node list",
    "rm -r /srv/trivet/node-2; kill -9 $(cat /srv/trivet/run/node-2.pid)",
    "aws s3 cp s3://photos/2026/hello.txt -",
    "trivet node replace node-2",
    "trivet repair status --watch",
    "trivet verify",
)


def draw() -> None:
    console = Console(
        width=COLUMNS, record=True, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    with tempfile.TemporaryDirectory() as folder, Terminal(Path(folder) / "machine") as terminal:
        terminal.start("make up DATA=/srv/trivet", "s3 ls", "the store")
        terminal.do(BEFORE, "objects")
        for command in SHOWN:
            console.print(Text("$ ", style="bold green") + Text(command, style="bold"))
            console.print(Text.from_ansi(_on_screen(terminal.do(command, command))))
    drawn = console.export_svg(title="trivet: a disk dies")
    # No font from elsewhere: a page shows pictures without asking others for something.
    PICTURE.write_text(re.sub(r"(?s)@font-face \{.*?\}\s*", "", drawn))


def _on_screen(output: str) -> str:
    """What stays on the screen when a live display has moved up and written over itself."""
    lines = [line.rpartition("\r")[2] for line in output.rstrip("\n").split("\n")]
    return "".join(line + "\n" for line in lines if line.strip())


if __name__ == "__main__":
    draw()
