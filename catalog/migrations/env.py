"""Alembic's entry: runs the migrations on the connection that `catalog.migrating` gives."""

from alembic import context

from catalog import schema


def run() -> None:
    """Run inside the caller's transaction."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=schema.metadata)
    context.run_migrations()


run()
