"""``trivet metrics …``."""

from __future__ import annotations

import typer

metrics_app = typer.Typer(
    no_args_is_help=True, help="What the store did: counts, latencies, failures and repairs."
)


@metrics_app.callback()
def metrics() -> None:
    """Holds the commands together."""
