"""Where the figures of a run go: standard output and the files that were asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conformance.bench.html_report import to_html
from conformance.bench.results import Run, to_csv, to_json
from conformance.bench.summary import run_lines

STANDARD_OUTPUT = Path("-")


def write(run: Run, *, json_file: Path | None, csv_file: Path | None, html_file: Path | None) -> None:
    """The summary for people goes to standard output unless one of the files is that."""
    formats: list[tuple[Path | None, Callable[[Run], str]]] = [
        (json_file, to_json),
        (csv_file, to_csv),
        (html_file, to_html),
    ]
    if all(path != STANDARD_OUTPUT for path, _ in formats):
        print("\n".join(run_lines(run)), flush=True)
    for path, render in formats:
        if path == STANDARD_OUTPUT:
            print(render(run), end="", flush=True)
        elif path is not None:
            path.write_text(render(run), encoding="utf-8")
