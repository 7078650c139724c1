"""Our own suite of S3 behaviour for any endpoint, one file an area. What it expects, AWS's documentation says."""
