"""``trivet bench``: the benchmark, which judges the store from outside and so is defined where the judges live."""

from __future__ import annotations

from conformance.bench.command import bench

__all__ = ["bench"]
