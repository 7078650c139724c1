"""The background worker: one lease, one unit of work a call."""
