"""``python -m conformance.bench``: as ``trivet bench``."""

from conformance.bench.command import main

main()
