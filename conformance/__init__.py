"""Judges any S3 endpoint from outside, over the wire."""
