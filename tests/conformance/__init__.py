"""Tests of the acceptance tools themselves."""
