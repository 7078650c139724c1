"""The limits of the S3 front, with their units last.

S3's own figures are from "Amazon S3 multipart upload limits" and the API reference of each operation.
"""

KEY_BYTES_MAX = 1024
OBJECT_BYTES_MAX_SINGLE_PUT = 5 << 30
OBJECT_BYTES_MAX = 5 << 40
PART_BYTES_MIN = 5 << 20
PART_BYTES_MAX = 5 << 30
PART_NUMBER_MAX = 10_000
DELETE_KEYS_MAX = 1000
LIST_KEYS_MAX = 1000

XML_BODY_BYTES_MAX = 2 << 20
"""DeleteObjects with 1,000 keys of 1,024 bytes, and 10,000 parts in CompleteMultipartUpload, fit."""

HEADER_BYTES_MAX = 16 << 10
"""URL and headers of one request together; S3 allows 8 KiB of headers beside the URL."""

HEADER_WAIT_S = 30.0
"""A connection that has not finished a request's headers after this long is closed (P8)."""

BODY_WAIT_S = 30.0
"""A client that sends nothing for this long in the middle of a body gets RequestTimeout (P8)."""

SEND_WAIT_S = 60.0
"""A client that takes no byte of a response for this long is cut off (P8)."""

DRAIN_WAIT_S = 1.5
"""How long an idle connection is kept for a next request when the front leaves."""

LINGER_S = 5.0
"""How long a client that was refused may go on sending before its connection is cut."""

DRAIN_BYTES_MAX = 1 << 20
"""After an early answer, a body with more than this still to come costs the client its connection."""
