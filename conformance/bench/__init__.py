"""Load generator and floor for make bench."""
