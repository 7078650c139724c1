"""The XML of a bucket's default encryption: read back as it was put, and nothing but S3's errors for the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.bucket_model import DefaultEncryption
from s3front.errors import InvalidArgument, MalformedXML, S3Error
from s3front.wire.encryption_xml import ROOT, default_encryption_xml, parse_default_encryption

KEY_IDS = st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
BLOCKED = st.sampled_from([(), ("SSE-C",), ("NONE",)])
DEFAULTS = st.builds(DefaultEncryption, st.just("AES256"), st.none(), st.booleans(), BLOCKED) | st.builds(
    DefaultEncryption, st.sampled_from(["aws:kms", "aws:kms:dsse"]), KEY_IDS, st.booleans(), BLOCKED
)


@given(DEFAULTS)
def test_what_was_put_is_read_back(default: DefaultEncryption) -> None:
    assert parse_default_encryption(default_encryption_xml(default)) == default


def in_rule(inside: str) -> bytes:
    return f"<{ROOT}><Rule>{inside}</Rule></{ROOT}>".encode()


def by_default(inside: str) -> bytes:
    return in_rule(f"<ApplyServerSideEncryptionByDefault>{inside}</ApplyServerSideEncryptionByDefault>")


@pytest.mark.parametrize(
    "key_id", ["line&#10;break", "über", "x" * 2049], ids=["line break", "not ASCII", "too long"]
)
def test_a_key_id_that_no_header_can_show_is_refused(key_id: str) -> None:
    """Answers show it in a header. Red when the id is taken as it comes."""
    with pytest.raises(InvalidArgument):
        parse_default_encryption(
            by_default(f"<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{key_id}</KMSMasterKeyID>")
        )


@pytest.mark.parametrize(
    "body",
    [
        f"<{ROOT}/>".encode(),
        in_rule("<Unknown/>"),
        by_default(""),
        by_default("<SSEAlgorithm>aws:fsx</SSEAlgorithm>"),
        in_rule("<BucketKeyEnabled>perhaps</BucketKeyEnabled>"),
        in_rule("<BlockedEncryptionTypes/>"),
        b"<Other/>",
    ],
)
def test_what_has_not_the_shape_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedXML):
        parse_default_encryption(body)


def test_a_rule_that_only_blocks_leaves_the_default_of_s3() -> None:
    blocking = in_rule(
        "<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>"
    )
    assert parse_default_encryption(blocking) == DefaultEncryption("AES256", blocked=("SSE-C",))


@given(st.binary(max_size=60) | st.text(max_size=60).map(by_default))
def test_no_body_breaks_the_parser(body: bytes) -> None:
    try:
        parse_default_encryption(body)
    except S3Error:
        return
