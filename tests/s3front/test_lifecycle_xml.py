"""The XML of a bucket's lifecycle, and the header that tells when an object ends."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from catalog.bucket_model import BucketActions, LifecycleRule, Transition
from catalog.lifecycle_rules import DAY_MS
from catalog.model import Attributes, Bucket
from s3front import errors
from s3front.handlers.lifecycle import new_expiration_header
from s3front.wire.lifecycle_xml import lifecycle_xml, parse_lifecycle


def _rule(**fields: Any) -> LifecycleRule:
    return structs.replace(LifecycleRule("r", enabled=True, expiration_days=1), **fields)


@pytest.mark.parametrize(
    "rule",
    [
        _rule(prefix=""),
        _rule(prefix="a/", enabled=False),
        _rule(filter="Filter"),
        _rule(filter="Filter/Prefix", prefix="a & b"),
        _rule(filter="Filter/Tag", tags=(("k", ""),)),
        _rule(filter="Filter/ObjectSizeGreaterThan", size_greater_than=0),
        _rule(filter="Filter/ObjectSizeLessThan", size_less_than=1 << 40),
        _rule(
            filter="Filter/And",
            prefix="a/",
            tags=(("k", "v"), ("l", "w")),
            size_greater_than=1,
            size_less_than=3,
        ),
        _rule(prefix="", expiration_days=None, expiration_date_ms=20_000 * DAY_MS),
        _rule(prefix="", expiration_days=None, expired_delete_markers=True),
        _rule(prefix="", expiration_days=None, expired_delete_markers=False),
        _rule(prefix="", transitions=(Transition("GLACIER", 0),), expiration_days=None),
        _rule(
            prefix="",
            expiration_days=None,
            transitions=(
                Transition("GLACIER", date_ms=DAY_MS),
                Transition("DEEP_ARCHIVE", date_ms=9 * DAY_MS),
            ),
        ),
        _rule(prefix="", noncurrent_days=2, newer_noncurrent=100, abort_upload_days=7),
        _rule(prefix="", noncurrent_transitions=(Transition("REDUCED_REDUNDANCY", 3, newer_noncurrent=1),)),
    ],
)
def test_what_is_put_is_handed_back(rule: LifecycleRule) -> None:
    assert parse_lifecycle(lifecycle_xml([rule])) == (rule,)


def _document(
    inside: str, *, where: str = "<Prefix/>", status: str = "Enabled", identifier: str = ""
) -> bytes:
    name = f"<ID>{identifier}</ID>" if identifier else ""
    rule = f"<Rule>{name}{where}<Status>{status}</Status>{inside}</Rule>"
    return f"<LifecycleConfiguration>{rule}</LifecycleConfiguration>".encode()


EXPIRES = "<Expiration><Days>1</Days></Expiration>"
TAG = "<Tag><Key>k</Key><Value>v</Value></Tag>"


def _transition(when: str, storage_class: str = "GLACIER") -> str:
    return f"<Transition>{when}<StorageClass>{storage_class}</StorageClass></Transition>"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<LifecycleConfiguration/>", errors.MalformedXML),
        (_document(EXPIRES, status="enabled"), errors.MalformedXML),
        (_document(EXPIRES, where=""), errors.MalformedXML),
        (_document(EXPIRES, where="<Prefix/><Filter/>"), errors.MalformedXML),
        (_document(EXPIRES, where=f"<Filter><Prefix>a</Prefix>{TAG}</Filter>"), errors.MalformedXML),
        (_document(EXPIRES, where="<Filter><And><Prefix>a</Prefix></And></Filter>"), errors.MalformedXML),
        (_document(EXPIRES, identifier="i" * 256), errors.InvalidArgument),
        (_document(""), errors.InvalidRequest),
        (_document("<Expiration><Days>0</Days></Expiration>"), errors.InvalidArgument),
        (_document("<Expiration><Days>-1</Days></Expiration>"), errors.InvalidArgument),
        (_document("<Expiration><Days>x</Days></Expiration>"), errors.MalformedXML),
        (_document("<Expiration/>"), errors.MalformedXML),
        (_document("<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>"), errors.MalformedXML),
        (_document("<Expiration><Date>2030-01-01T00:00:01Z</Date></Expiration>"), errors.InvalidArgument),
        (_document("<Expiration><Date>20300101</Date></Expiration>"), errors.MalformedXML),
        (_document(_transition("<Days>1</Days>", "STANDARD")), errors.MalformedXML),
        (_document(_transition("")), errors.MalformedXML),
        (_document(_transition("<Days>-1</Days>")), errors.InvalidArgument),
        (_document(_transition("<Days>1</Days>") * 2), errors.InvalidRequest),
        (_document(_transition("<Days>1</Days>") + EXPIRES), errors.InvalidArgument),
        (_document(_transition("<Date>2030-01-01</Date>") + EXPIRES), errors.InvalidRequest),
        (
            _document(
                "<NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions>"
                "</NoncurrentVersionExpiration>"
            ),
            errors.MalformedXML,
        ),
        (
            _document(
                "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
                "<NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
            ),
            errors.InvalidArgument,
        ),
        (
            _document(
                "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>"
                "</AbortIncompleteMultipartUpload>",
                where=f"<Filter>{TAG}</Filter>",
            ),
            errors.InvalidRequest,
        ),
        (
            _document(
                "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
                where=f"<Filter>{TAG}</Filter>",
            ),
            errors.InvalidRequest,
        ),
        (
            _document(
                EXPIRES,
                where="<Filter><And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan>"
                "<ObjectSizeLessThan>5</ObjectSizeLessThan></And></Filter>",
            ),
            errors.InvalidRequest,
        ),
        (lifecycle_xml([_rule(prefix=""), _rule(prefix="a")]), errors.InvalidArgument),
        (lifecycle_xml(_rule(id=str(number), prefix="") for number in range(1001)), errors.MalformedXML),
    ],
)
def test_what_is_unfit_is_refused(body: bytes, error: type[errors.S3Error]) -> None:
    with pytest.raises(error):
        parse_lifecycle(body)


NOON_MS = 15_000 * DAY_MS + DAY_MS // 2


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), None),
        ((_rule(prefix="other"),), None),
        ((_rule(noncurrent_days=1, expiration_days=None),), None),
        ((_rule(expiration_days=1 << 31),), None),
        ((_rule(id="1 & 2"),), 'expiry-date="Fri, 28 Jan 2011 00:00:00 GMT", rule-id="1%20%26%202"'),
        ((_rule(tags=(("k", "v"),)),), 'expiry-date="Fri, 28 Jan 2011 00:00:00 GMT", rule-id="r"'),
        ((_rule(tags=(("k", "w"),)),), None),
    ],
)
def test_answers_tell_when_an_object_ends(rules: tuple[LifecycleRule, ...], expected: str | None) -> None:
    bucket = Bucket(1, "b", "o", "r", 0, actions=BucketActions(lifecycle=rules))
    told = new_expiration_header(
        bucket, b"key", size=1, modified_ms=NOON_MS, attributes=Attributes(tags={"k": "v"})
    )
    assert told == expected
