"""``trivet bucket …``."""

from __future__ import annotations

import typer

bucket_app = typer.Typer(no_args_is_help=True, help="Buckets: what lies in them, and how much may.")


@bucket_app.callback()
def bucket() -> None:
    """Holds the commands together."""
