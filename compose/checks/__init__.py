"""What `trivet doctor` looks at, one module a subject."""
