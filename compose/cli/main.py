"""The entry point of ``trivet``.

Imports are late: what a command does not need it does not load, so that a storage node's process holds no
SQL, no erasure coding and no HTTP, and no process keeps the libraries of the command line in memory.
"""

from __future__ import annotations

import sys

PROCESSES = ("supervise", "front", "node", "steward", "init", "token", "restart", "found", "floor")


def is_process(arguments: list[str]) -> bool:
    """Whether they name a process of the store. `trivet node` with options is one; with a word after it, it is
    a command for people.
    """
    if not arguments or arguments[0] not in PROCESSES:
        return False
    if arguments[0] != "node":
        return True
    return len(arguments) > 1 and arguments[1].startswith("-") and arguments[1] != "--help"


def main() -> None:
    """Runs the command that the arguments name."""
    if is_process(sys.argv[1:]):
        from compose.cli.processes import run

        run(sys.argv[1], sys.argv[2:])
        return
    from compose.cli.commands import run_command

    run_command()


if __name__ == "__main__":
    main()
