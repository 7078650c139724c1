"""Where handlers meet encryption: the data key that a request may use, and the headers that an answer shows.

A request on an object that is not encrypted pays for a look at its headers and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from catalog.model import Attributes, Bucket, Encryption
from s3front import errors
from s3front.encryption import data_keys
from s3front.encryption.customer_keys import ALGORITHM, PREFIX, SOURCE_PREFIX, customer_key
from s3front.encryption.data_keys import SSE_C, SSE_KMS, SSE_S3, Sealing, WrongKey
from s3front.encryption.key_service import KeyDisabled, KeyUnusable, UnknownKey
from s3front.encryption.wanted import (
    BUCKET_KEY_HEADER,
    CONTEXT_HEADER,
    KEY_ID_HEADER,
    SSE_HEADER,
    Wanted,
    belongs_to,
    wanted_encryption,
)
from s3front.errors import InvalidArgument, InvalidRequest
from s3front.request import Request
from s3front.response import Header, header
from s3front.services import FrontServices

_NOT_APPLICABLE: Final = "The encryption parameters are not applicable to this object."
_NEEDED: Final = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to "
    "retrieve the object."
)
_NEEDED_BY_PARTS: Final = (
    "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate "
    "encryption parameters."
)
_OTHER_KEY: Final = "The provided encryption parameters did not match the ones used originally."


# -- new objects ---------------------------------------------------------------------------------------------


async def for_new_object(services: FrontServices, request: Request, bucket: Bucket) -> Sealing | None:
    """How the bytes of a new object, or multipart upload, are to be encrypted; None: not at all. Keep
    `Sealing.encryption` in its attributes.

    Raises InvalidArgument, InvalidEncryptionAlgorithmError, AccessDenied (blocked in the bucket), KMSNotFound,
    KMSDisabled.
    """
    wanted = wanted_encryption(request, bucket)
    return None if wanted is None else await new_sealing(services, wanted)


async def new_sealing(services: FrontServices, wanted: Wanted) -> Sealing:
    """A fresh data key. Raises KMSNotFound, KMSDisabled."""
    if wanted.customer is not None:
        return await sealing_with(services, wanted, data_keys.new_data_key())
    with _told():
        made = await services.encryption.new_data_key(wanted.key_id, wanted.belongs_to)
    return Sealing(_kept(wanted, made.sealed, made.version), made.plain)


async def sealing_with(services: FrontServices, wanted: Wanted, data_key: bytes) -> Sealing:
    """A data key that there is already, for a copy that shares its source's bytes. Raises as `new_sealing`."""
    if wanted.customer is not None:
        return Sealing(
            _kept(wanted, data_keys.wrap(wanted.customer, data_key, wanted.belongs_to), 0), data_key
        )
    with _told():
        wrapped = await services.encryption.wrap_data_key(wanted.key_id, wanted.belongs_to, data_key)
    return Sealing(_kept(wanted, wrapped.sealed, wrapped.version), data_key)


def _kept(wanted: Wanted, sealed_key: bytes, version: int) -> Encryption:
    return Encryption(wanted.algorithm, sealed_key, wanted.key_id, version, wanted.context, wanted.bucket_key)


async def for_part(services: FrontServices, request: Request, attributes: Attributes) -> Sealing | None:
    """The same for a part of an open upload with these attributes, or for completing it: only SSE-C has headers then,
    which must come again, and must be those the upload was made with. Raises InvalidRequest, and as `for_reading`."""
    encryption = attributes.encryption
    key = await _data_key(
        services, encryption, customer_key(request.headers), needed=_NEEDED_BY_PARTS, key_wanted=True
    )
    if encryption is None or key is None:
        return None
    return Sealing(encryption, key)


# -- stored objects ------------------------------------------------------------------------------------------


async def for_reading(services: FrontServices, request: Request, attributes: Attributes) -> bytes | None:
    """The data key of a stored object, None when it is not encrypted.

    Raises InvalidRequest when SSE-C headers are missing, superfluous or others than those it was stored with,
    InvalidArgument for those that can't be, KMSNotFound, KMSDisabled.
    """
    return await _data_key(
        services, attributes.encryption, _reading_key(request), needed=_NEEDED, key_wanted=True
    )


async def for_describing(services: FrontServices, request: Request, attributes: Attributes) -> None:
    """The same checks for requests that get no bytes, as HEAD: they need no key but a customer's."""
    await _data_key(services, attributes.encryption, _reading_key(request), needed=_NEEDED, key_wanted=False)


async def for_source(services: FrontServices, request: Request, attributes: Attributes) -> bytes | None:
    """As `for_reading` for the source of a copy, whose headers have names of their own."""
    customer = customer_key(request.headers, SOURCE_PREFIX)
    return await _data_key(services, attributes.encryption, customer, needed=_NEEDED, key_wanted=True)


def _reading_key(request: Request) -> bytes | None:
    if SSE_HEADER in request.headers:
        raise InvalidArgument(
            f"{SSE_HEADER} header is not supported for this operation.",
            ArgumentName=SSE_HEADER,
            ArgumentValue=request.headers[SSE_HEADER],
        )
    return customer_key(request.headers)


async def _data_key(
    services: FrontServices,
    encryption: Encryption | None,
    customer: bytes | None,
    *,
    needed: str,
    key_wanted: bool,
) -> bytes | None:
    if encryption is None or encryption.algorithm != SSE_C:
        if customer is not None:
            raise InvalidRequest(_NOT_APPLICABLE)
        if encryption is None or not key_wanted:
            return None
        with _told():
            return await services.encryption.open_data_key(
                encryption.key_id,
                encryption.key_version,
                belongs_to(encryption.algorithm, encryption.context),
                encryption.sealed_key,
            )
    if customer is None:
        raise InvalidRequest(needed)
    try:
        return data_keys.unwrap(customer, encryption.sealed_key, belongs_to(SSE_C, ""))
    except WrongKey:
        raise InvalidRequest(_OTHER_KEY) from None


@contextmanager
def _told() -> Iterator[None]:
    """Faults of the key service as S3 names them."""
    try:
        yield
    except UnknownKey:
        raise errors.KMSNotFound from None
    except KeyDisabled:
        raise errors.KMSDisabled from None
    except KeyUnusable:
        raise errors.InternalError from None


# -- answers -------------------------------------------------------------------------------------------------


def response_headers(encryption: Encryption | None, request: Request) -> list[Header]:
    """What an answer shows of the encryption of the object, part or upload that it is about."""
    if encryption is None:
        return []
    if encryption.algorithm == SSE_C:
        key = customer_key(request.headers)
        assert key is not None, "it was asked for before"
        digest = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
        return [header(PREFIX + "algorithm", ALGORITHM), header(PREFIX + "key-md5", digest)]
    headers = [header(SSE_HEADER, encryption.algorithm)]
    if encryption.algorithm in SSE_KMS:
        headers.append(header(KEY_ID_HEADER, encryption.key_id))
        if encryption.bucket_key:
            headers.append(header(BUCKET_KEY_HEADER, "true"))
        if encryption.context and request.method not in ("GET", "HEAD"):
            headers.append(header(CONTEXT_HEADER, encryption.context))
    return headers


def shows_md5(encryption: Encryption | None) -> bool:
    """Whether the ETag of an object so encrypted is one that it would have in the clear."""
    return encryption is None or encryption.algorithm == SSE_S3
