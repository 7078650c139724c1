"""The XML of object lock."""

from __future__ import annotations

import pytest

from catalog.bucket_model import LockConfiguration
from catalog.model import Retention
from s3front import errors
from s3front.wire import lock_xml


@pytest.mark.parametrize(
    "lock",
    [
        LockConfiguration(),
        LockConfiguration("GOVERNANCE", days=1),
        LockConfiguration("COMPLIANCE", years=100),
        LockConfiguration("COMPLIANCE", days=36_500),
    ],
)
def test_what_is_put_is_handed_back(lock: LockConfiguration) -> None:
    assert lock_xml.parse_configuration(lock_xml.configuration_xml(lock)) == lock


def _configuration(inside: str, enabled: str = "Enabled") -> bytes:
    retention = f"<Rule><DefaultRetention>{inside}</DefaultRetention></Rule>"
    return (
        f"<ObjectLockConfiguration><ObjectLockEnabled>{enabled}</ObjectLockEnabled>{retention}"
        "</ObjectLockConfiguration>"
    ).encode()


MODE = "<Mode>GOVERNANCE</Mode>"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", errors.MalformedXML),
        (b"<ObjectLockConfiguration/>", errors.MalformedXML),
        (_configuration(f"{MODE}<Days>1</Days>", "Disabled"), errors.MalformedXML),
        (_configuration(f"{MODE}<Days>1</Days><Years>1</Years>"), errors.MalformedXML),
        (_configuration(MODE), errors.MalformedXML),
        (_configuration("<Days>1</Days>"), errors.MalformedXML),
        (_configuration("<Mode>governance</Mode><Days>1</Days>"), errors.MalformedXML),
        (_configuration(f"{MODE}<Days>one</Days>"), errors.MalformedXML),
        (_configuration(f"{MODE}<Days>1</Days><Weeks>1</Weeks>"), errors.MalformedXML),
        (_configuration(f"{MODE}<Days>0</Days>"), errors.InvalidRetentionPeriod),
        (_configuration(f"{MODE}<Years>-1</Years>"), errors.InvalidRetentionPeriod),
        (_configuration(f"{MODE}<Days>36501</Days>"), errors.InvalidRetentionPeriod),
        (_configuration(f"{MODE}<Years>101</Years>"), errors.InvalidRetentionPeriod),
        (
            b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule/>"
            b"</ObjectLockConfiguration>",
            errors.MalformedXML,
        ),
    ],
)
def test_configurations_that_are_refused(body: bytes, error: type[errors.S3Error]) -> None:
    with pytest.raises(error):
        lock_xml.parse_configuration(body)


def test_retention() -> None:
    retention = Retention("COMPLIANCE", 1_893_456_000_123)
    written = lock_xml.retention_xml(retention)
    assert b"<RetainUntilDate>2030-01-01T00:00:00.123Z</RetainUntilDate>" in written
    assert lock_xml.parse_retention(written) == retention
    assert lock_xml.parse_retention(b"<Retention/>") is None


@pytest.mark.parametrize(
    "inside",
    [
        MODE,
        "<RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate>",
        f"{MODE}<RetainUntilDate>tomorrow</RetainUntilDate>",
        f"{MODE}<RetainUntilDate>1893456000000</RetainUntilDate>",
        f"{MODE}<RetainUntilDate/>",
        "<Mode>FOREVER</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate>",
        f"{MODE}<RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate><Days>1</Days>",
    ],
)
def test_retentions_that_are_refused(inside: str) -> None:
    with pytest.raises(errors.MalformedXML):
        lock_xml.parse_retention(f"<Retention>{inside}</Retention>".encode())


def test_legal_hold() -> None:
    for on in (True, False):
        assert lock_xml.parse_legal_hold(lock_xml.legal_hold_xml(on=on)) is on


@pytest.mark.parametrize("inside", ["", "<Status/>", "<Status>on</Status>", "<Status>ON</Status><Other/>"])
def test_legal_holds_that_are_refused(inside: str) -> None:
    with pytest.raises(errors.MalformedXML):
        lock_xml.parse_legal_hold(f"<LegalHold>{inside}</LegalHold>".encode())
