"""The XML of a bucket's lifecycle.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html and, for what goes together in a rule,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from catalog.bucket_model import LifecycleRule, Transition
from catalog.lifecycle_rules import DAY_MS, STORAGE_CLASSES
from cluster.reports.moments import iso_at
from s3front.errors import InvalidArgument, InvalidRequest, MalformedXML
from s3front.limits import XML_BODY_BYTES_MAX
from s3front.wire import xml
from s3front.wire.headers import parse_iso_date
from s3front.wire.tagging import OBJECT_TAGS_MAX, check_tags
from s3front.wire.xml_writer import document, element, optional, text

RULES_MAX = 1000
ID_CHARS_MAX = 255
NEWER_NONCURRENT_MAX = 100

_DAYS_MAX = (1 << 31) - 1
_CONDITIONS = ("Prefix", "Tag", "ObjectSizeGreaterThan", "ObjectSizeLessThan")


class _Filter(Struct, frozen=True):
    """What a rule applies to; `filter` as in `LifecycleRule`."""

    filter: str
    prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    greater: int | None = None
    less: int | None = None


class _Expiration(Struct, frozen=True):
    days: int | None = None
    date_ms: int | None = None
    markers: bool | None = None


# -- reading -------------------------------------------------------------------------------------------------


def parse_lifecycle(body: bytes) -> tuple[LifecycleRule, ...]:
    """A PutBucketLifecycleConfiguration body; rules without an ID have an empty one. Raises MalformedXML,
    InvalidArgument, InvalidRequest, InvalidTag."""
    root = xml.parse(body, root="LifecycleConfiguration", max_bytes=XML_BODY_BYTES_MAX)
    root.allow_only("Rule")
    rules = tuple(_rule(child) for child in root)
    if not 1 <= len(rules) <= RULES_MAX:
        raise MalformedXML
    given = [rule.id for rule in rules if rule.id]
    if len(given) != len(set(given)):
        raise InvalidArgument("Rule ID must be unique. Found same ID for more than one rule")
    return rules


def _rule(node: xml.Element) -> LifecycleRule:
    node.allow_only(
        "ID",
        "Prefix",
        "Filter",
        "Status",
        "Expiration",
        "Transition",
        "NoncurrentVersionExpiration",
        "NoncurrentVersionTransition",
        "AbortIncompleteMultipartUpload",
    )
    status = node.required_text("Status")
    if status not in ("Enabled", "Disabled"):
        raise MalformedXML
    identifier = node.text("ID") or ""
    if len(identifier) > ID_CHARS_MAX:
        raise InvalidArgument("ID length should not exceed allowed limit of 255")
    applies = _filter(node)
    expiration = _expiration(node.child("Expiration"))
    noncurrent_days, newer_noncurrent = _noncurrent_expiration(node.child("NoncurrentVersionExpiration"))
    rule = LifecycleRule(
        id=identifier,
        enabled=status == "Enabled",
        filter=applies.filter,
        prefix=applies.prefix,
        tags=applies.tags,
        size_greater_than=applies.greater,
        size_less_than=applies.less,
        expiration_days=expiration.days,
        expiration_date_ms=expiration.date_ms,
        expired_delete_markers=expiration.markers,
        transitions=tuple(_transition(child) for child in node.children("Transition")),
        noncurrent_days=noncurrent_days,
        newer_noncurrent=newer_noncurrent,
        noncurrent_transitions=tuple(
            _noncurrent_transition(child) for child in node.children("NoncurrentVersionTransition")
        ),
        abort_upload_days=_abort_days(node.child("AbortIncompleteMultipartUpload")),
    )
    _check_together(rule)
    return rule


def _filter(rule: xml.Element) -> _Filter:
    node = rule.child("Filter")
    if (node is None) == (rule.child("Prefix") is None):
        raise MalformedXML
    if node is None:
        return _Filter("", rule.text("Prefix"))
    node.allow_only(*_CONDITIONS, "And")
    conditions = list(node)
    if not conditions:
        return _Filter("Filter")
    if len(conditions) > 1:
        raise MalformedXML
    name = f"Filter/{conditions[0].name}"
    if name != "Filter/And":
        return _conditions(node, name)
    conditions[0].allow_only(*_CONDITIONS)
    if len(list(conditions[0])) < 2:
        raise MalformedXML
    return _conditions(conditions[0], name)


def _conditions(node: xml.Element, name: str) -> _Filter:
    tags = []
    for tag in node.children("Tag"):
        tag.allow_only("Key", "Value")
        value = tag.text("Value")
        if value is None:
            raise MalformedXML
        tags.append((tag.required_text("Key"), value))
    check_tags(tags, tags_max=OBJECT_TAGS_MAX, target="Object")
    greater, less = (_number(node, each, least=0, most=1 << 62) for each in _CONDITIONS[2:])
    if greater is not None and less is not None and greater >= less:
        raise InvalidRequest("'ObjectSizeLessThan' has to be greater than 'ObjectSizeGreaterThan'")
    return _Filter(name, node.text("Prefix"), tuple(tags), greater, less)


def _number(
    node: xml.Element, name: str, *, least: int, most: int = _DAYS_MAX, required: bool = False
) -> int | None:
    if node.child(name) is None and not required:
        return None
    number = node.required_int(name)
    if number < least:
        kind = "a positive" if least else "a nonnegative"
        raise InvalidArgument(f"'{name}' for {node.name} action must be {kind} integer", ArgumentName=name)
    if number > most:
        raise InvalidArgument(f"'{name}' for {node.name} action must be at most {most}", ArgumentName=name)
    return number


def _date(node: xml.Element) -> int | None:
    if node.child("Date") is None:
        return None
    date_ms = parse_iso_date(node.required_text("Date"))
    if date_ms is None:
        raise MalformedXML
    if date_ms % DAY_MS:
        raise InvalidArgument("'Date' must be at midnight GMT", ArgumentName="Date")
    return date_ms


def _expiration(node: xml.Element | None) -> _Expiration:
    if node is None:
        return _Expiration()
    node.allow_only("Date", "Days", "ExpiredObjectDeleteMarker")
    if len(list(node)) != 1:
        raise MalformedXML
    name = "ExpiredObjectDeleteMarker"
    markers = None if node.child(name) is None else node.boolean(name)
    return _Expiration(_number(node, "Days", least=1), _date(node), markers)


def _transition(node: xml.Element) -> Transition:
    node.allow_only("Date", "Days", "StorageClass")
    days, date_ms = _number(node, "Days", least=0), _date(node)
    if (days is None) == (date_ms is None):
        raise MalformedXML
    return Transition(_storage_class(node), days, date_ms)


def _noncurrent_transition(node: xml.Element) -> Transition:
    node.allow_only("NoncurrentDays", "NewerNoncurrentVersions", "StorageClass")
    days = _number(node, "NoncurrentDays", least=0, required=True)
    return Transition(_storage_class(node), days, newer_noncurrent=_newer(node))


def _storage_class(node: xml.Element) -> str:
    name = node.required_text("StorageClass")
    if name not in STORAGE_CLASSES[1:]:
        raise MalformedXML
    return name


def _noncurrent_expiration(node: xml.Element | None) -> tuple[int | None, int | None]:
    if node is None:
        return None, None
    node.allow_only("NoncurrentDays", "NewerNoncurrentVersions")
    return _number(node, "NoncurrentDays", least=1, required=True), _newer(node)


def _newer(node: xml.Element) -> int | None:
    return _number(node, "NewerNoncurrentVersions", least=1, most=NEWER_NONCURRENT_MAX)


def _abort_days(node: xml.Element | None) -> int | None:
    if node is None:
        return None
    node.allow_only("DaysAfterInitiation")
    return _number(node, "DaysAfterInitiation", least=1, required=True)


def _check_together(rule: LifecycleRule) -> None:
    """What each element allows for itself, and AWS refuses in one rule."""
    if not (
        rule.transitions
        or rule.noncurrent_transitions
        or rule.expired_delete_markers is not None
        or any(
            number is not None
            for number in (
                rule.expiration_days,
                rule.expiration_date_ms,
                rule.noncurrent_days,
                rule.abort_upload_days,
            )
        )
    ):
        raise InvalidRequest("At least one action needs to be specified in a rule")
    if rule.tags and rule.abort_upload_days is not None:
        raise InvalidRequest("AbortIncompleteMultipartUpload cannot be specified with Tags")
    if rule.tags and rule.expired_delete_markers is not None:
        raise InvalidRequest("ExpiredObjectDeleteMarker cannot be specified with Tags")
    _check_classes("Transition", rule.transitions)
    _check_classes("NoncurrentVersionTransition", rule.noncurrent_transitions)
    has_dates = rule.expiration_date_ms is not None or _any_date(rule.transitions)
    has_days = rule.expiration_days is not None or any(each.days is not None for each in rule.transitions)
    if has_dates and has_days:
        raise InvalidRequest(
            "Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule"
        )
    _check_order("Days", rule.expiration_days, [each.days for each in rule.transitions])
    _check_order("Date", rule.expiration_date_ms, [each.date_ms for each in rule.transitions])
    _check_order("NoncurrentDays", rule.noncurrent_days, [each.days for each in rule.noncurrent_transitions])


def _any_date(transitions: Iterable[Transition]) -> bool:
    return any(each.date_ms is not None for each in transitions)


def _check_classes(action: str, transitions: Sequence[Transition]) -> None:
    if len({each.storage_class for each in transitions}) != len(transitions):
        raise InvalidRequest(f"'StorageClass' must be different for '{action}' actions in same 'Rule'")


def _check_order(name: str, end: int | None, moves: Iterable[int | None]) -> None:
    if end is not None and any(move is not None and move >= end for move in moves):
        raise InvalidArgument(
            f"'{name}' in the Expiration action must be greater than '{name}' in the Transition action",
            ArgumentName=name,
        )


# -- writing -------------------------------------------------------------------------------------------------


def lifecycle_xml(rules: Iterable[LifecycleRule]) -> bytes:
    """What GetBucketLifecycleConfiguration answers: what was put."""
    return document("LifecycleConfiguration", *(element("Rule", *_rule_pieces(rule)) for rule in rules))


def _rule_pieces(rule: LifecycleRule) -> list[str]:
    pieces = [
        text("ID", rule.id),
        _filter_xml(rule),
        text("Status", "Enabled" if rule.enabled else "Disabled"),
    ]
    expiration = (
        optional("Days", rule.expiration_days)
        + _date_xml(rule.expiration_date_ms)
        + optional("ExpiredObjectDeleteMarker", rule.expired_delete_markers)
    )
    if expiration:
        pieces.append(element("Expiration", expiration))
    pieces += [
        element(
            "Transition",
            optional("Days", each.days),
            _date_xml(each.date_ms),
            text("StorageClass", each.storage_class),
        )
        for each in rule.transitions
    ]
    if rule.noncurrent_days is not None:
        spared = optional("NewerNoncurrentVersions", rule.newer_noncurrent)
        pieces.append(
            element("NoncurrentVersionExpiration", text("NoncurrentDays", rule.noncurrent_days), spared)
        )
    pieces += [
        element(
            "NoncurrentVersionTransition",
            optional("NoncurrentDays", each.days),
            optional("NewerNoncurrentVersions", each.newer_noncurrent),
            text("StorageClass", each.storage_class),
        )
        for each in rule.noncurrent_transitions
    ]
    if rule.abort_upload_days is not None:
        days = text("DaysAfterInitiation", rule.abort_upload_days)
        pieces.append(element("AbortIncompleteMultipartUpload", days))
    return pieces


def _filter_xml(rule: LifecycleRule) -> str:
    conditions = (
        optional("Prefix", rule.prefix)
        + "".join(element("Tag", text("Key", key), text("Value", value)) for key, value in rule.tags)
        + optional("ObjectSizeGreaterThan", rule.size_greater_than)
        + optional("ObjectSizeLessThan", rule.size_less_than)
    )
    if not rule.filter:
        return conditions
    return element("Filter", element("And", conditions) if rule.filter == "Filter/And" else conditions)


def _date_xml(date_ms: int | None) -> str:
    return "" if date_ms is None else text("Date", iso_at(date_ms))
