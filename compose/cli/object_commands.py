"""``trivet object …``."""

from __future__ import annotations

import typer

object_app = typer.Typer(no_args_is_help=True, help="Where an object lies, and whether its blocks verify.")


@object_app.callback()
def object() -> None:
    """Holds the commands together."""
