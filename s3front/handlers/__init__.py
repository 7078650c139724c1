"""One module a family of S3 operations."""
