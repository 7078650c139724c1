"""Shards and nodes: from blobs to blocks on disks and back."""
