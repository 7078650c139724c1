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

from compose.refusal import EXIT_REFUSED, StartRefused
from compose.settings import Settings, default_text, option_name, table

app = typer.Typer(
    name="trivet",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="An S3-compatible object store that stands on three legs.",
)


def _option(name: str, metavar: str) -> Any:
    setting = table()[name]
    default = default_text(name)
    text = f"{setting.help} [{setting.env}" + (f"; default: {default}]" if default else "]")
    return typer.Option(option_name(name), help=text, metavar=metavar, show_default=False)


ListenFd = Annotated[int, typer.Option(help="number of the inherited listening socket")]
SupervisorFd = Annotated[int | None, typer.Option(help="number of the inherited socket to the supervisor")]
Name = Annotated[str, typer.Option(help="name of this process in logs")]


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
    from compose.up import up as run_up

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
    _log_as("supervisor", settings)
    raise typer.Exit(run_up(settings, os.environ))


@app.command()
def front(
    listen_fd: ListenFd,
    name: Name = "front-1",
    supervisor_fd: SupervisorFd = None,
) -> None:
    """Run one S3 front (what `trivet up` starts; settings come from the environment)."""
    settings = _settings_of_child(name)
    from compose.wiring import run_front_process

    run_front_process(settings, os.environ, listen_fd=listen_fd, supervisor_fd=supervisor_fd)


@app.command()
def node(
    *,
    directory: Annotated[Path, typer.Option("--dir", help="the node's data directory")],
    cluster_id: Annotated[str, typer.Option(help="the cluster it belongs to, hexadecimal")],
    node_id: Annotated[str, typer.Option(help="its id in the catalog, hexadecimal")],
    listen_fd: ListenFd,
    name: Name = "node-1",
    supervisor_fd: SupervisorFd = None,
) -> None:
    """Run one storage node (what `trivet up` starts; settings come from the environment)."""
    settings = _settings_of_child(name)
    from compose.node_process import run_node_process

    run_node_process(
        settings,
        directory,
        cluster_id=bytes.fromhex(cluster_id),
        node_id=bytes.fromhex(node_id),
        listen_fd=listen_fd,
        supervisor_fd=supervisor_fd,
    )


@app.command()
def steward(supervisor_fd: SupervisorFd = None) -> None:
    """Run the steward, the background worker (what `trivet up` starts)."""
    settings = _settings_of_child("steward")
    from compose.wiring import run_steward_process

    run_steward_process(settings, os.environ, supervisor_fd=supervisor_fd)


@app.command(hidden=True)
def found() -> None:
    """Make or check catalog and node directories; the plan comes as JSON on stdin (only for `trivet up`)."""
    settings = _settings_of_child("founding")
    from compose.founding import found as run_founding

    sys.stdout.buffer.write(run_founding(settings, sys.stdin.buffer.read()))


@app.command(hidden=True)
def floor(listen_fd: ListenFd, supervisor_fd: SupervisorFd = None) -> None:
    """Serve empty answers: what `make bench` compares the S3 front with."""
    settings = _settings_of_child("floor")
    from compose.floor import run_floor_process

    run_floor_process(settings, listen_fd=listen_fd, supervisor_fd=supervisor_fd)


def _settings_of_child(process: str) -> Settings:
    settings = Settings.read(os.environ, {})
    _log_as(process, settings)
    return settings


def _log_as(process: str, settings: Settings) -> None:
    from compose import logs

    logs.configure(process, settings.log_level)


def main() -> None:
    """The entry point: a refusal is one line for the person at the terminal, and an exit code of its own."""
    try:
        app()
    except StartRefused as refusal:
        print(f"trivet: {refusal}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
