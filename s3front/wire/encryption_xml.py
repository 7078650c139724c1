"""The XML of a bucket's default encryption."""

from __future__ import annotations

from typing import Final

from catalog.bucket_model import DefaultEncryption
from s3front.encryption.data_keys import SSE_C, SSE_KMS, SSE_S3
from s3front.encryption.wanted import is_key_id
from s3front.errors import InvalidArgument, MalformedXML
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.wire import xml
from s3front.wire.xml_writer import document, element, optional, text

ROOT: Final = "ServerSideEncryptionConfiguration"
_BLOCKED: Final = (SSE_C, "NONE")


def parse_default_encryption(body: bytes) -> DefaultEncryption:
    """A PutBucketEncryption body, which has one rule. Raises MalformedXML, InvalidArgument."""
    root = xml.parse(body, root=ROOT, max_bytes=XML_BODY_BYTES_MAX)
    root.allow_only("Rule")
    rule = root.child("Rule")
    if rule is None:
        raise MalformedXML
    rule.allow_only("ApplyServerSideEncryptionByDefault", "BucketKeyEnabled", "BlockedEncryptionTypes")
    algorithm, key_id = _by_default(rule.child("ApplyServerSideEncryptionByDefault"))
    return DefaultEncryption(
        algorithm,
        key_id,
        bucket_key=rule.boolean("BucketKeyEnabled"),
        blocked=_blocked(rule.child("BlockedEncryptionTypes")),
    )


def _by_default(found: xml.Element | None) -> tuple[str, str | None]:
    if found is None:  # a rule that only blocks leaves the default to S3, which is SSE-S3
        return SSE_S3, None
    found.allow_only("SSEAlgorithm", "KMSMasterKeyID")
    algorithm, key_id = found.required_text("SSEAlgorithm"), found.text("KMSMasterKeyID") or None
    if algorithm not in (SSE_S3, *SSE_KMS):
        raise MalformedXML
    if key_id is not None and algorithm == SSE_S3:
        raise InvalidArgument(
            "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
            ArgumentName="ApplyServerSideEncryptionByDefault",
        )
    if key_id is not None and not is_key_id(key_id):
        raise InvalidArgument("Invalid KMS key id", ArgumentName="KMSMasterKeyID")
    return algorithm, key_id


def _blocked(found: xml.Element | None) -> tuple[str, ...]:
    if found is None:
        return ()
    found.allow_only("EncryptionType")
    kinds = tuple(kind.content for kind in found)
    if not kinds or any(kind not in _BLOCKED for kind in kinds):
        raise MalformedXML
    return kinds


def default_encryption_xml(default: DefaultEncryption) -> bytes:
    """What GetBucketEncryption answers."""
    by_default = element(
        "ApplyServerSideEncryptionByDefault",
        text("SSEAlgorithm", default.algorithm),
        optional("KMSMasterKeyID", default.key_id),
    )
    blocked = element("BlockedEncryptionTypes", *(text("EncryptionType", kind) for kind in default.blocked))
    return document(
        ROOT,
        element(
            "Rule",
            by_default,
            text("BucketKeyEnabled", default.bucket_key),
            blocked if default.blocked else "",
        ),
    )
