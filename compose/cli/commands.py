"""The command ``trivet``.

Imports are late: what a command does not need it does not load, so that a storage node's process holds no
SQL, no erasure coding and no HTTP, and the supervisor stays small.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from compose.process import trivet_command
from compose.refusal import EXIT_REFUSED, StartRefused
from compose.settings import Settings, default_text, option_name, table

app = typer.Typer(
    name="trivet",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="An S3-compatible object store that stands on three legs.",
    epilog="The processes that `trivet up` starts are commands too: trivet front, node, steward (with --help).",
)


def _option(name: str, metavar: str) -> Any:
    setting = table()[name]
    default = default_text(name)
    text = f"{setting.help} [{setting.env}" + (f"; default: {default}]" if default else "]")
    return typer.Option(option_name(name), help=text, metavar=metavar, show_default=False)


@app.callback()
def trivet() -> None:
    """Keeps `up` a command of its own while it is the only one."""


@app.command()
def up(
    *,
    data: Annotated[Path | None, _option("data", "DIR")] = None,
    port: Annotated[int | None, _option("port", "N")] = None,
    host: Annotated[str | None, _option("host", "ADDRESS")] = None,
    node_dir: Annotated[list[Path] | None, _option("node_dirs", "DIR")] = None,
    fronts: Annotated[int | None, _option("fronts", "N")] = None,
    region: Annotated[str | None, _option("region", "NAME")] = None,
    domains: Annotated[str | None, _option("domains", "NAMES")] = None,
    data_shards: Annotated[int | None, _option("data_shards", "K")] = None,
    parity_shards: Annotated[int | None, _option("parity_shards", "M")] = None,
    front_stripe_bytes_max: Annotated[int | None, _option("front_stripe_bytes_max", "BYTES")] = None,
    keep_alive_s: Annotated[int | None, _option("keep_alive_s", "SECONDS")] = None,
    stop_wait_s: Annotated[int | None, _option("stop_wait_s", "SECONDS")] = None,
    silence_s_max: Annotated[int | None, _option("silence_s_max", "SECONDS")] = None,
    restart_wait_s_max: Annotated[int | None, _option("restart_wait_s_max", "SECONDS")] = None,
    log_level: Annotated[str | None, _option("log_level", "LEVEL")] = None,
) -> None:
    """Start the whole store on this machine: S3 endpoint, storage nodes, steward. Ctrl-C stops it."""
    settings = Settings.read(
        os.environ,
        {
            "data": data,
            "port": port,
            "host": host,
            "node_dirs": tuple(node_dir) if node_dir else None,
            "fronts": fronts,
            "region": region,
            "domains": tuple(domains.split(",")) if domains else None,
            "data_shards": data_shards,
            "parity_shards": parity_shards,
            "front_stripe_bytes_max": front_stripe_bytes_max,
            "keep_alive_s": keep_alive_s,
            "stop_wait_s": stop_wait_s,
            "silence_s_max": silence_s_max,
            "restart_wait_s_max": restart_wait_s_max,
            "log_level": log_level,
        },
    )
    supervise(settings)


def supervise(settings: Settings) -> None:
    """Becomes the supervisor: this process goes on as another program, so that the command line's
    libraries do not stay in memory for as long as the store runs.
    """
    environment = {**os.environ, **settings.to_environment()}
    os.execve(sys.executable, [*trivet_command(), "supervise"], environment)  # noqa: S606


def run_command() -> None:
    """The commands for people: a refusal is one line at the terminal and an exit code of its own."""
    try:
        app()
    except StartRefused as refusal:
        print(f"trivet: {refusal}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
