"""The commands that run one process of the store, and the small ones around them: `init`, `token`, `restart`.

`trivet up` starts these processes with inherited sockets (--listen-fd, --supervisor-fd); started by itself, by systemd,
in a container, or by hand, each takes its settings as the store's other commands do, and some as options. argparse,
not the library of the commands for people: that one would cost each process 9 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from compose import logs, standalone
from compose.config_file import CONFIG_VARIABLE
from compose.process import ALLOCATOR, inherited_listener, trivet_command
from compose.refusal import EXIT_NOT_DONE, EXIT_REFUSED, StartRefused
from compose.setting import option_name
from compose.settings import Settings, table

_BY_ITSELF = {
    "front": ("data", "listen", "region", "zone", "log_level"),
    "node": ("listen", "advertise", "join", "node_name", "region", "zone", "log_level"),
    "steward": ("data", "region", "zone", "log_level"),
    "init": ("data",),
    "token": ("data",),
    "restart": ("data",),
}
"""The settings that each command takes as options; all of them are taken from elsewhere too."""
_SECRETS = {"node": ("join_token",), "floor": (), "restart": ("catalog", "join_token")}
"""The secrets that a command needs, where it does not need all: a host of nodes has no key to the catalog."""


def run(command: str, arguments: Sequence[str]) -> None:
    """Runs until the process has done its work or is told to stop; exits with EXIT_REFUSED when it can't
    start.
    """
    options = _parser(command).parse_args(arguments)
    if command in {"front", "steward"} and not ALLOCATOR.keys() <= os.environ.keys():
        # The C library reads these before it does anything else.
        again = [*trivet_command(), command, *arguments]
        os.execve(sys.executable, again, {**ALLOCATOR, **os.environ})  # noqa: S606
    try:
        settings = _settings(command, options)
        logs.configure(
            _name_of(settings, options), settings.log_level, settings.log_format, _request_id_of(command)
        )
        code = _COMMANDS[command](settings, options)
    except StartRefused as refusal:
        if command in {"supervise", "init", "token", "restart"}:
            print(f"trivet: {refusal}", file=sys.stderr)
        else:
            logging.getLogger("trivet.compose").error("%s", refusal)  # noqa: TRY400 (for an operator)
        code = EXIT_REFUSED
    sys.exit(code)


def _settings(command: str, options: argparse.Namespace) -> Settings:
    """Raises StartRefused."""
    if getattr(options, "config", None) is not None:
        os.environ[CONFIG_VARIABLE] = str(options.config.absolute())
    names, known = _BY_ITSELF.get(command, ()), table()
    texts = {name: getattr(options, name) for name in names}
    try:
        flags = {name: None if text is None else known[name].parse(text) for name, text in texts.items()}
    except ValueError as error:
        raise StartRefused(f"an option can't be used: {error}") from None
    return Settings.read(os.environ, flags, _SECRETS.get(command))


def _name_of(settings: Settings, options: argparse.Namespace) -> str:
    name: str = options.name
    return settings.node_name or name if name == "node" else name


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
    known = table()
    for setting in _BY_ITSELF.get(command, ()):
        about = known[setting]
        parser.add_argument(option_name(setting), dest=setting, help=f"{about.help} [{about.env}]")
    if command in _BY_ITSELF:
        parser.add_argument("--config", type=Path, help=f"configuration file in TOML [{CONFIG_VARIABLE}]")
    if command in ("front", "node", "steward", "floor"):
        parser.add_argument("--supervisor-fd", type=int, help="inherited socket to the supervisor")
    if command in ("front", "node", "floor"):
        parser.add_argument("--listen-fd", type=int, help="inherited listening socket")
    if command == "node":
        parser.add_argument("--dir", type=Path, required=True, help="the node's data directory")
        parser.add_argument(
            "--cluster-id", type=bytes.fromhex, help="hexadecimal; without it: of the join token"
        )
        parser.add_argument("--node-id", type=bytes.fromhex, help="hexadecimal; without it: of the directory")
    return parser


@contextlib.contextmanager
def _listener(settings: Settings, options: argparse.Namespace) -> Iterator[socket.socket]:
    """The inherited socket, by option or from systemd, else one of our own. Raises StartRefused."""
    descriptor = options.listen_fd
    if descriptor is None:
        descriptor = standalone.passed_descriptor(os.environ)
    with (
        standalone.own_listener(settings)
        if descriptor is None
        else inherited_listener(descriptor) as listener
    ):
        yield listener


def _run_files(settings: Settings, options: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """A supervisor keeps those of its children."""
    if options.supervisor_fd is not None:
        return contextlib.nullcontext()
    return standalone.run_files(settings, options.name)


def _supervise(settings: Settings, _options: argparse.Namespace) -> int:
    """Start the whole store and keep it running (what `trivet up` becomes)."""
    from compose.up import up

    return up(settings, os.environ)


def _front(settings: Settings, options: argparse.Namespace) -> int:
    """Run one S3 front."""
    from compose.front_process import run_front_process

    with _listener(settings, options) as listener, _run_files(settings, options):
        run_front_process(
            settings,
            os.environ,
            listener=listener,
            supervisor_fd=options.supervisor_fd,
            name=options.name,
        )
    return 0


def _node(settings: Settings, options: argparse.Namespace) -> int:
    """Run one storage node."""
    from compose.listening import address
    from compose.node_process import NodePlace, run_node_process, settle_node

    with _listener(settings, options) as listener:
        if options.cluster_id is not None and options.node_id is not None:
            place = NodePlace(options.dir, options.cluster_id, options.node_id)
        else:
            place = settle_node(settings, options.dir, address(listener))
        run_node_process(
            settings,
            place,
            name=_name_of(settings, options),
            listener=listener,
            supervisor_fd=options.supervisor_fd,
        )
    return 0


def _steward(settings: Settings, options: argparse.Namespace) -> int:
    """Run the steward, the background worker; of several, on one host or on two, one works and the others stand by."""
    from compose.steward_process import run_steward_process

    with _run_files(settings, options):
        run_steward_process(settings, supervisor_fd=options.supervisor_fd)
    return 0


def _init(settings: Settings, _options: argparse.Namespace) -> int:
    """Make a store for processes that are started one by one: its identity, secret, credentials and catalog. What is
    there already stays.
    """
    from compose.init_store import init_store

    print(init_store(settings, os.environ))
    return 0


def _token(settings: Settings, _options: argparse.Namespace) -> int:
    """Print the join token, with which processes on other hosts belong to this store. It is a secret."""
    from compose.init_store import join_token

    print(join_token(settings))
    return 0


def _restart(settings: Settings, _options: argparse.Namespace) -> int:
    """Restart each process of the `trivet up` that runs here, one after the other, while the store goes on."""
    from compose.restarting import restart

    problem = restart(settings, lambda name: print(f"{name} is back", flush=True))
    if problem:
        print(f"trivet: {problem}", file=sys.stderr)
    return EXIT_NOT_DONE if problem else 0


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

    with _listener(settings, options) as listener:
        run_floor_process(settings, listener=listener, supervisor_fd=options.supervisor_fd)
    return 0


_COMMANDS: dict[str, Callable[[Settings, argparse.Namespace], int]] = {
    "supervise": _supervise,
    "front": _front,
    "node": _node,
    "steward": _steward,
    "init": _init,
    "token": _token,
    "restart": _restart,
    "found": _found,
    "floor": _floor,
}
