"""Bytes and arithmetic; no files, sockets or clocks."""
