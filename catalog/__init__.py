"""What exists: buckets, objects, blobs, uploads and the work queues, in SQL."""
