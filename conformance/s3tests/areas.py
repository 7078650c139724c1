"""Which area of S3 a test of ceph/s3-tests belongs to, told by its markers and its name."""

from __future__ import annotations

import re
from collections.abc import Collection

# The first line that matches decides: a test about the ACL of a version is about ACLs.
_AREAS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("post", (), r"post_object"),
    ("policy", ("bucket_policy",), r"policy"),
    ("cors", (), r"cors"),
    ("public-access", (), r"public_block|block_public|ignore_public|restrict_public"),
    ("acl", (), r"acl|access_bucket|grant|anon|not_owned|nonowner"),
    ("lock", ("object_lock",), r"object_lock"),
    ("lifecycle", ("lifecycle", "lifecycle_expiration"), r"lifecycle"),
    ("sse", ("encryption", "sse_s3", "bucket_encryption"), r"encrypt|sse_|copy_enc|copy_part_enc|_enc_"),
    ("ownership", ("object_ownership",), r"ownership|bucket_owner"),
    ("attributes", (), r"object_attributes"),
    ("checksum", ("checksum",), r"checksum|cksum"),
    ("conditional", ("conditional_write",), r"if_?match|if_?none_?match|if_?(un)?modified"),
    ("append", ("appendobject",), r"append"),
    ("multipart", (), r"multipart"),
    ("versioning", ("versioning", "delete_marker"), r"version|delete_marker"),
    ("tagging", ("tagging",), r"tag"),
    ("copy", ("copy",), r"copy"),
    ("raw-requests", (), r"object_raw|presigned"),
    ("listing", ("list_objects_v2",), r"bucket_list|basic_key_count"),
    ("headers", (), r"_create_bad_|_put_bad_"),
    ("buckets", (), r"test_bucket|list_buckets"),
    ("ranges", (), r"range"),
)


def area_of(name: str, markers: Collection[str]) -> str:
    """`name` is the function's, with or without parameters."""
    for area, area_markers, pattern in _AREAS:
        if re.search(pattern, name) or any(marker in markers for marker in area_markers):
            return area
    return "objects"
