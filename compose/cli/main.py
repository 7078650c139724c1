"""The entry point of ``trivet``.

Imports are late: what a command does not need it does not load, so that a storage node's process holds no
SQL, no erasure coding and no HTTP, and no process keeps the libraries of the command line in memory.
"""

from __future__ import annotations

import sys

PROCESSES = ("supervise", "front", "node", "steward", "found", "floor")


def main() -> None:
    """Runs the command that the arguments name."""
    if sys.argv[1:2] and sys.argv[1] in PROCESSES:
        from compose.cli.processes import run

        run(sys.argv[1], sys.argv[2:])
        return
    from compose.cli.commands import run_command

    run_command()


if __name__ == "__main__":
    main()
