"""The command ``trivet``.

Imports are late: what a command does not need it does not load, so that a storage node's process holds no
SQL, no erasure coding and no HTTP, and the supervisor stays small.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from compose import credentials
from compose.cli.bench_command import bench
from compose.cli.bucket_commands import bucket_app
from compose.cli.catalog_commands import catalog_app
from compose.cli.config_commands import ConfigFile, config_app, show
from compose.cli.doctor_command import doctor
from compose.cli.encryption_commands import encryption_key_app
from compose.cli.events_command import events
from compose.cli.key_commands import key_app
from compose.cli.lock_commands import lock_clock_app
from compose.cli.metrics_commands import metrics_app
from compose.cli.node_commands import nodes_app
from compose.cli.object_commands import object_app
from compose.cli.repair_commands import orphans_app, repair_app, scrub_app
from compose.cli.status_command import status
from compose.cli.store_access import answer
from compose.cli.verify_command import verify
from compose.process import trivet_command
from compose.refusal import EXIT_NOT_DONE, EXIT_REFUSED, CommandRefused, StartRefused
from compose.setting import option_name
from compose.settings import Settings, default_text, table
from compose.variables import unknown

app = typer.Typer(
    name="trivet",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="An S3-compatible object store that stands on three legs.",
    epilog=(
        "Exit codes: 0 done and well, 1 not done or not well, 2 the command was not understood, 78 the store can't "
        "start with these settings."
    ),
)


@app.callback(invoke_without_command=True)
def trivet(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the release and its data formats (--json), and exit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --version: for programs.")] = False,
    config: ConfigFile = None,
) -> None:
    """An S3-compatible object store that stands on three legs."""
    del config  # taken by its callback
    if version:
        from compose.release import in_words, release

        answer({**release()}, in_words(release()), as_json=as_json)
        raise typer.Exit
    if as_json or context.invoked_subcommand is None:
        context.fail("--json goes with --version, or behind a command" if as_json else "Missing command.")


NOT_OF_UP = frozenset({"listen", "advertise", "join", "node_name"})
"""Settings of processes that run by themselves."""


def _option(name: str, metavar: str) -> Any:
    setting = table()[name]
    default = default_text(name)
    text = f"{setting.help} [{setting.env}" + (f"; default: {default}]" if default else "]")
    return typer.Option(option_name(name), help=text, metavar=metavar, show_default=False)


@app.command()
def up(
    *,
    data: Annotated[Path | None, _option("data", "DIR")] = None,
    port: Annotated[int | None, _option("port", "N")] = None,
    host: Annotated[str | None, _option("host", "ADDRESS")] = None,
    node_dir: Annotated[list[Path] | None, _option("node_dirs", "DIR")] = None,
    nodes: Annotated[int | None, _option("nodes", "N")] = None,
    fronts: Annotated[int | None, _option("fronts", "N")] = None,
    region: Annotated[str | None, _option("region", "NAME")] = None,
    zone: Annotated[str | None, _option("zone", "NAME")] = None,
    catalog_copies: Annotated[int | None, _option("catalog_copies", "N")] = None,
    domains: Annotated[str | None, _option("domains", "NAMES")] = None,
    data_shards: Annotated[int | None, _option("data_shards", "K")] = None,
    parity_shards: Annotated[int | None, _option("parity_shards", "M")] = None,
    reduced_data_shards: Annotated[int | None, _option("reduced_data_shards", "K")] = None,
    reduced_parity_shards: Annotated[int | None, _option("reduced_parity_shards", "M")] = None,
    lifecycle_day_s: Annotated[int | None, _option("lifecycle_day_s", "SECONDS")] = None,
    front_stripe_bytes_max: Annotated[int | None, _option("front_stripe_bytes_max", "BYTES")] = None,
    grace_s: Annotated[int | None, _option("grace_s", "SECONDS")] = None,
    rebuild_after_s: Annotated[int | None, _option("rebuild_after_s", "SECONDS")] = None,
    repair_bytes_per_s: Annotated[int | None, _option("repair_bytes_per_s", "BYTES")] = None,
    scrub_bytes_per_s: Annotated[int | None, _option("scrub_bytes_per_s", "BYTES")] = None,
    scrub_s: Annotated[int | None, _option("scrub_s", "SECONDS")] = None,
    segment_bytes: Annotated[int | None, _option("segment_bytes", "BYTES")] = None,
    node_reserve_bytes: Annotated[int | None, _option("node_reserve_bytes", "BYTES")] = None,
    keep_alive_s: Annotated[int | None, _option("keep_alive_s", "SECONDS")] = None,
    stop_wait_s: Annotated[int | None, _option("stop_wait_s", "SECONDS")] = None,
    silence_s_max: Annotated[int | None, _option("silence_s_max", "SECONDS")] = None,
    restart_wait_s_max: Annotated[int | None, _option("restart_wait_s_max", "SECONDS")] = None,
    log_requests: Annotated[str | None, _option("log_requests", "WHICH")] = None,
    log_format: Annotated[str | None, _option("log_format", "FORMAT")] = None,
    trace_url: Annotated[str | None, _option("trace_url", "URL")] = None,
    log_level: Annotated[str | None, _option("log_level", "LEVEL")] = None,
    config: ConfigFile = None,
) -> None:
    """Start the whole store on this machine: S3 endpoint, storage nodes, steward. Ctrl-C stops it."""
    del config  # taken by its callback
    settings = Settings.read(
        os.environ,
        {
            "data": data,
            "port": port,
            "host": host,
            "node_dirs": tuple(node_dir) if node_dir else None,
            "nodes": nodes,
            "fronts": fronts,
            "region": region,
            "zone": zone,
            "catalog_copies": catalog_copies,
            "domains": tuple(domains.split(",")) if domains else None,
            "data_shards": data_shards,
            "parity_shards": parity_shards,
            "reduced_data_shards": reduced_data_shards,
            "reduced_parity_shards": reduced_parity_shards,
            "lifecycle_day_s": lifecycle_day_s,
            "front_stripe_bytes_max": front_stripe_bytes_max,
            "grace_s": grace_s,
            "rebuild_after_s": rebuild_after_s,
            "repair_bytes_per_s": repair_bytes_per_s,
            "scrub_bytes_per_s": scrub_bytes_per_s,
            "scrub_s": scrub_s,
            "segment_bytes": segment_bytes,
            "node_reserve_bytes": node_reserve_bytes,
            "keep_alive_s": keep_alive_s,
            "stop_wait_s": stop_wait_s,
            "silence_s_max": silence_s_max,
            "restart_wait_s_max": restart_wait_s_max,
            "log_requests": log_requests,
            "log_format": log_format,
            "trace_url": trace_url,
            "log_level": log_level,
        },
    )
    supervise(settings)


def supervise(settings: Settings) -> None:
    """Becomes the supervisor: this process goes on as another program, so that the command line's
    libraries do not stay in memory for as long as the store runs.
    """
    for name, near in unknown(os.environ).items():
        print(f"trivet: {name} is no setting" + (f"; did you mean {near}?" if near else ""), file=sys.stderr)
    environment = {**os.environ, **credentials.to_environment(os.environ), **settings.to_environment()}
    os.execve(sys.executable, [*trivet_command(), "supervise"], environment)  # noqa: S606


app.command()(status)
app.add_typer(
    nodes_app,
    name="node",
    epilog="The process of a node: trivet node --dir DIR …, see trivet node --dir DIR --help.",
)
app.add_typer(bucket_app, name="bucket")
app.add_typer(object_app, name="object")
app.add_typer(key_app, name="key")
app.add_typer(encryption_key_app, name="encryption-key")
app.add_typer(metrics_app, name="metrics")
app.command()(events)
app.command()(doctor)
app.add_typer(config_app, name="config")
app.command("settings", help="The same as config show.")(show)
app.command()(verify)
app.command()(bench)
app.add_typer(repair_app, name="repair")
app.add_typer(scrub_app, name="scrub")
app.add_typer(orphans_app, name="orphans")
app.add_typer(catalog_app, name="catalog")
app.add_typer(lock_clock_app, name="lock-clock")


def _run_process(context: typer.Context) -> None:
    """compose.cli.main runs these before it comes here; listed, they can be found."""
    from compose.cli.processes import run

    run(context.info_name or "", context.args)


_AS_IT_COMES = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
for _name, _help in (
    ("init", "Make a store whose processes are started one by one; what is there already stays."),
    ("token", "Print the join token, with which processes on other hosts belong to the store: a secret."),
    ("front", "The process of one S3 front; `trivet up` starts it, or on another host its unit."),
    ("steward", "The process of the steward, which repairs, moves and cleans up; started likewise."),
):
    app.command(_name, help=_help, context_settings=_AS_IT_COMES)(_run_process)


def run_command() -> None:
    """The commands for people: a refusal is one line at the terminal and an exit code of its own."""
    # What is less than an error, as a node that is not reachable, the answers tell in their own way.
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    try:
        app(prog_name="trivet")
    except CommandRefused as refusal:
        print(f"trivet: {refusal}", file=sys.stderr)
        sys.exit(EXIT_NOT_DONE)
    except StartRefused as refusal:
        print(f"trivet: {refusal}", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
