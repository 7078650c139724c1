"""What encryption asks of a service that keeps keys: the key ring in the catalog is one, an external KMS another.

The keys themselves never leave the service: it makes, wraps and unwraps data keys.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

SSE_S3_KEY = "sse-s3"
"""Wraps the data keys of SSE-S3."""
DEFAULT_KMS_KEY = "aws/s3"
"""Wraps those of SSE-KMS where the request names no key, as AWS's managed key does."""


class KeyServiceError(Exception):
    """The key can't be used. Holds no key."""


class UnknownKey(KeyServiceError):
    """There is no key of that name."""


class KeyDisabled(KeyServiceError):
    """The key was taken out of use."""


class KeyUnusable(KeyServiceError):
    """The service could not do it: a fault of the service or of what is stored, not of the request."""


class WrappedKey(NamedTuple):
    """A data key as it may be kept; `version` is that of the key that it was wrapped under."""

    sealed: bytes
    version: int


class DataKey(NamedTuple):
    """A new data key, in the clear and as it may be kept."""

    plain: bytes
    sealed: bytes
    version: int

    def __repr__(self) -> str:
        return "DataKey(…)"  # never the key


class KeyService(Protocol):
    """`key_id` is a name as clients write it, `context` what the data key belongs to: only the same opens it again.
    All raise KeyServiceError and the catalog's errors."""

    async def new_data_key(self, key_id: str, context: bytes) -> DataKey:
        """A new data key, under the key's current version."""
        ...

    async def wrap_data_key(self, key_id: str, context: bytes, plain: bytes) -> WrappedKey:
        """A data key that there is already, under the key's current version."""
        ...

    async def open_data_key(self, key_id: str, version: int, context: bytes, sealed: bytes) -> bytes:
        """The data key in the clear."""
        ...
