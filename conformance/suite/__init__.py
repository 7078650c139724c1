"""Our own suite of S3 behaviour, one file an area, for any endpoint. Each expectation comes from AWS's documentation."""
