"""The XML of object lock: configuration of a bucket, retention and legal hold of a version."""

from __future__ import annotations

from catalog.bucket_model import LockConfiguration
from catalog.locks import MODES
from catalog.model import Retention
from cluster.reports.moments import iso_at
from s3front.errors import InvalidRetentionPeriod, MalformedXML
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.wire import xml
from s3front.wire.headers import parse_iso_date
from s3front.wire.xml_writer import document, element, optional, text

DAYS_MAX = 36_500
YEARS_MAX = 100


def parse_configuration(body: bytes) -> LockConfiguration:
    """A PutObjectLockConfiguration body. Raises MalformedXML; InvalidRetentionPeriod for a number out of range."""
    root = xml.parse(body, root="ObjectLockConfiguration", max_bytes=XML_BODY_BYTES_MAX)
    root.allow_only("ObjectLockEnabled", "Rule")
    if root.required_text("ObjectLockEnabled") != "Enabled":
        raise MalformedXML
    rule = root.child("Rule")
    if rule is None:
        return LockConfiguration()
    rule.allow_only("DefaultRetention")
    retention = rule.child("DefaultRetention")
    if retention is None:
        raise MalformedXML
    retention.allow_only("Mode", "Days", "Years")
    mode = _mode(retention)
    days, years = _period(retention, "Days", DAYS_MAX), _period(retention, "Years", YEARS_MAX)
    if (days is None) == (years is None):
        raise MalformedXML
    return LockConfiguration(mode, days, years)


def _mode(parent: xml.Element) -> str:
    mode = parent.required_text("Mode")
    if mode not in MODES:
        raise MalformedXML
    return mode


def _period(parent: xml.Element, name: str, most: int) -> int | None:
    if parent.child(name) is None:
        return None
    number = parent.required_int(name)
    if number < 1:
        raise InvalidRetentionPeriod
    if number > most:
        raise InvalidRetentionPeriod(f"Default retention period too large: at most {most:,} {name.lower()}.")
    return number


def configuration_xml(lock: LockConfiguration) -> bytes:
    """What GetObjectLockConfiguration answers."""
    rule = ""
    if lock.mode is not None:
        period = optional("Days", lock.days) + optional("Years", lock.years)
        rule = element("Rule", element("DefaultRetention", text("Mode", lock.mode), period))
    return document("ObjectLockConfiguration", text("ObjectLockEnabled", "Enabled"), rule)


def parse_retention(body: bytes) -> Retention | None:
    """A PutObjectRetention body; None for an empty element, which ends retention. Raises MalformedXML."""
    root = xml.parse(body, root="Retention", max_bytes=XML_BODY_BYTES_MAX)
    root.allow_only("Mode", "RetainUntilDate")
    if not list(root):
        return None
    mode = _mode(root)
    until_ms = parse_iso_date(root.required_text("RetainUntilDate"))
    if until_ms is None:
        raise MalformedXML
    return Retention(mode, until_ms)


def retention_xml(retention: Retention) -> bytes:
    """What GetObjectRetention answers."""
    return document(
        "Retention",
        text("Mode", retention.mode),
        text("RetainUntilDate", iso_at(retention.until_ms)),
    )


def parse_legal_hold(body: bytes) -> bool:
    """A PutObjectLegalHold body: whether the hold is on. Raises MalformedXML."""
    root = xml.parse(body, root="LegalHold", max_bytes=XML_BODY_BYTES_MAX)
    root.allow_only("Status")
    status = root.required_text("Status")
    if status not in ("ON", "OFF"):
        raise MalformedXML
    return status == "ON"


def legal_hold_xml(*, on: bool) -> bytes:
    """What GetObjectLegalHold answers."""
    return document("LegalHold", text("Status", "ON" if on else "OFF"))
