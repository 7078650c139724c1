"""Server-side encryption: whose keys, which headers, and the bytes of sealed blobs on their way to a client."""
