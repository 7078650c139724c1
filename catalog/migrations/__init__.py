"""Alembic migrations; they only add."""
