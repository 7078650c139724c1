"""The documents: their commands run, their words name what exists."""
