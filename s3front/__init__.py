"""The S3 protocol: HTTP requests in, catalog rows and blobs out."""
