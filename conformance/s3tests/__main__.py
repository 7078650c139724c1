"""``python -m conformance.s3tests``: what `make conformance S3TESTS=path` runs."""

from conformance.s3tests.command import main

main()
