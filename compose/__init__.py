"""Puts the processes together: settings, wiring, supervisor, command line."""
