"""The commands that run one process of the store. `trivet up` starts them; later releases' units will too.

Settings come from the environment; the options say which process this is and what it inherits. argparse,
not the library of the commands for people: that one would cost each process 9 MB.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from compose import logs
from compose.refusal import EXIT_REFUSED, StartRefused
from compose.settings import Settings


def run(command: str, arguments: Sequence[str]) -> None:
    """Runs until the process has done its work or is told to stop; exits with EXIT_REFUSED when it can't
    start.
    """
    options = _parser(command).parse_args(arguments)
    try:
        settings = Settings.read(os.environ, {})
        logs.configure(options.name, settings.log_level, settings.log_format, _request_id_of(command))
        code = _COMMANDS[command](settings, options)
    except StartRefused as refusal:
        if command == "supervise":
            print(f"trivet: {refusal}", file=sys.stderr)
        else:
            logging.getLogger("trivet.compose").error("%s", refusal)  # noqa: TRY400 (for an operator)
        code = EXIT_REFUSED
    sys.exit(code)


def _request_id_of(command: str) -> logs.RequestId:
    """Only fronts have requests."""
    if command != "front":
        return logs.no_request
    from s3front.request_id import current_request_id

    return current_request_id.get


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"trivet {command}", description=_COMMANDS[command].__doc__, allow_abbrev=False
    )
    name = {"supervise": "supervisor", "found": "founding"}.get(command, command)
    parser.add_argument("--name", default=name, help="name of this process in logs")
    if command not in ("supervise", "found"):
        parser.add_argument("--supervisor-fd", type=int, help="inherited socket to the supervisor")
    if command in ("front", "node", "floor"):
        parser.add_argument("--listen-fd", type=int, required=True, help="inherited listening socket")
    if command == "node":
        parser.add_argument("--dir", type=Path, required=True, help="the node's data directory")
        parser.add_argument("--cluster-id", type=bytes.fromhex, required=True, help="hexadecimal")
        parser.add_argument("--node-id", type=bytes.fromhex, required=True, help="hexadecimal")
    return parser


def _supervise(settings: Settings, _options: argparse.Namespace) -> int:
    """Start the whole store and keep it running (what `trivet up` becomes)."""
    from compose.up import up

    return up(settings, os.environ)


def _front(settings: Settings, options: argparse.Namespace) -> int:
    """Run one S3 front."""
    from compose.front_process import run_front_process

    run_front_process(
        settings,
        os.environ,
        listen_fd=options.listen_fd,
        supervisor_fd=options.supervisor_fd,
        name=options.name,
    )
    return 0


def _node(settings: Settings, options: argparse.Namespace) -> int:
    """Run one storage node."""
    from compose.node_process import run_node_process

    run_node_process(
        settings,
        options.dir,
        name=options.name,
        cluster_id=options.cluster_id,
        node_id=options.node_id,
        listen_fd=options.listen_fd,
        supervisor_fd=options.supervisor_fd,
    )
    return 0


def _steward(settings: Settings, options: argparse.Namespace) -> int:
    """Run the steward, the background worker."""
    from compose.steward_process import run_steward_process

    run_steward_process(settings, supervisor_fd=options.supervisor_fd)
    return 0


def _found(settings: Settings, _options: argparse.Namespace) -> int:
    """Make or check catalog and node directories, in JSON lines with the supervisor on stdin and stdout."""
    from compose.founding import answer

    def write_line(line: bytes) -> None:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    answer(settings, sys.stdin.buffer.readline, write_line)
    return 0


def _floor(settings: Settings, options: argparse.Namespace) -> int:
    """Serve empty answers: what `make bench` compares the S3 fronts with."""
    from compose.floor import run_floor_process

    run_floor_process(settings, listen_fd=options.listen_fd, supervisor_fd=options.supervisor_fd)
    return 0


_COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int]] = {
    "supervise": _supervise,
    "front": _front,
    "node": _node,
    "steward": _steward,
    "found": _found,
    "floor": _floor,
}
