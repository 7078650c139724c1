"""What S3 looks like on the wire: XML, headers, ranges, conditions, checksums."""
