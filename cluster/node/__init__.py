"""One storage node: knows blocks, nothing of buckets, SQL or other nodes."""
