"""A model of a bucket in plain Python, and the stores that must behave like it."""
