"""``python -m conformance.suite``: the acceptance tests, against any endpoint."""

from conformance.suite.command import main

main()
