"""Holds answers to AWS's service model: what a client's parser skips in silence is a fault here.

``watch(client)`` checks every answer that a boto3 client gets: each element and each ``x-amz-`` header of it is one
that the model has for the operation, comes as often as it may and holds what it should, and no required one misses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import botocore.session
from lxml import etree

MODEL = botocore.session.get_session().get_service_model("s3")

EVERYWHERE = {"x-amz-request-id", "x-amz-id-2"}
BESIDE_THE_MODEL = {
    # AWS sends them, and ceph's suite looks for them there.
    "CompleteMultipartUploadOutput": {
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-customer-key-md5",
    },
}
_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_TEXT = {
    "integer": re.compile("-?[0-9]+"),
    "long": re.compile("-?[0-9]+"),
    "boolean": re.compile("true|false"),
    "timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
}
_ERROR = re.compile(rb"(<\?xml[^>]*>)?\s*<Error>")  # answers that began with 200 may end so
_DATE = re.compile(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")


class OutOfModel(AssertionError):
    """An answer that AWS's model does not know."""


def watch(client: Any) -> None:
    """Raise OutOfModel out of the call whose answer is not as the model says."""
    client.meta.events.register("after-call.s3", _answered)


def _answered(http_response: Any, model: Any, **_: object) -> None:
    status = http_response.status_code
    streams = model.has_streaming_output and status < 300
    body = b"" if streams else http_response.content
    method = model.http["method"]
    check(model.name, status, http_response.headers, body, has_body=not streams and method != "HEAD")


def check(
    operation: str, status: int, headers: Mapping[str, str], body: bytes, *, has_body: bool = True
) -> None:
    """Raise OutOfModel unless this may be an answer to the operation. `has_body`: whether it is all of its body."""
    shape = MODEL.operation_model(operation).output_shape
    try:
        if status >= 300 or _ERROR.match(body):
            _check_error(status, body, has_body)
            return
        _check_headers(shape, headers)
        if has_body:
            _check_body(operation, shape, body)
    except OutOfModel as fault:
        raise OutOfModel(f"{operation} {status}: {fault}\n{dict(headers)}\n{body[:3000]!r}") from None


def _check_error(status: int, body: bytes, has_body: bool) -> None:
    if status == 304 or not has_body:
        _require(not body, "a body where there is none")
        return
    root = etree.fromstring(body)
    _require(root.tag == "Error", f"{root.tag} is no Error")
    for name in ("Code", "Message", "RequestId", "HostId"):
        _require(len(root.findall(name)) == 1, f"an error needs {name}")


def _check_headers(shape: Any, headers: Mapping[str, str]) -> None:
    sent = {name.lower(): value for name, value in headers.items()}
    known = EVERYWHERE | BESIDE_THE_MODEL.get(shape.name if shape else "", set())
    for name, member in (shape.members if shape else {}).items():
        place = member.serialization.get("location")
        if place == "headers":
            prefix = member.serialization["name"].lower()
            known.update(header for header in sent if header.startswith(prefix))
        elif place == "header":
            header = member.serialization["name"].lower()
            known.add(header)
            if header in sent:
                _check_header(header, member, sent[header])
            _require(header in sent or name not in shape.required_members, f"no header {header}")
    for header in sent:
        _require(header in known or not header.startswith("x-amz-"), f"unknown header {header}")


def _check_header(name: str, member: Any, value: str) -> None:
    if member.type_name == "timestamp" and member.serialization.get("timestampFormat") != "iso8601":
        _require(bool(_DATE.fullmatch(value)), f"{name}: {value!r} is no date")
    else:
        _check_text(name, member, value)


def _check_body(operation: str, shape: Any, body: bytes) -> None:
    members = {k: m for k, m in shape.members.items() if "location" not in m.serialization} if shape else {}
    payload = shape.serialization.get("payload") if shape else None
    if payload is not None and members[payload].type_name != "structure":
        return
    if not members:
        _require(not body, "a body where there is none")
        return
    root = etree.fromstring(body)
    if operation == "GetBucketLocation":  # the one answer whose root is its only value
        _require(_name(root) == "LocationConstraint" and not len(root), "no LocationConstraint")
    elif payload is not None:
        target = members[payload]
        names = {target.serialization.get("name", payload), target.name}
        _require(_name(root) in names, f"{_name(root)} is none of {names}")
        _check_members(root, target.members, target.required_members)
    else:
        _check_members(root, members, set(shape.required_members) & set(members))


def _check_members(node: Any, members: Mapping[str, Any], required: Any) -> None:
    path = _name(node)
    known: dict[str, tuple[str, Any]] = {}
    for key, member in members.items():
        name = member.serialization.get("name", key)
        if member.serialization.get("xmlAttribute"):
            value = node.get(_XSI + name.partition(":")[2])
            _require(value is not None or key not in required, f"{path} without attribute {name}")
            continue
        if member.type_name == "list" and member.serialization.get("flattened"):
            name = member.serialization.get("name") or member.member.serialization.get("name") or key
        known[name] = (key, member)
    counts: dict[str, int] = {}
    for child in node:
        name = _name(child)
        _require(name in known, f"{path} has no {name}")
        counts[name] = counts.get(name, 0) + 1
        _check_value(child, known[name][1])
    for name, (key, member) in known.items():
        count = counts.get(name, 0)
        flat = member.type_name == "list" and member.serialization.get("flattened")
        _require(count <= 1 or bool(flat), f"{path} has {count} times {name}")
        _require(count > 0 or key not in required, f"{path} without {name}")


def _check_value(node: Any, member: Any) -> None:
    if member.type_name == "structure":
        _check_members(node, member.members, member.required_members)
    elif member.type_name == "list" and member.serialization.get("flattened"):
        _check_value(node, member.member)
    elif member.type_name == "list":
        for child in node:
            wanted = member.member.serialization.get("name", "member")
            _require(_name(child) == wanted, f"{_name(node)} has no {_name(child)}")
            _check_value(child, member.member)
    else:
        _require(not len(node), f"{_name(node)} has children")
        _check_text(_name(node), member, node.text or "")


def _check_text(name: str, member: Any, value: str) -> None:
    pattern = _TEXT.get(member.type_name)
    _require(pattern is None or bool(pattern.fullmatch(value)), f"{name}: {value!r} is no {member.type_name}")
    choices = getattr(member, "enum", None)
    _require(not choices or value in choices, f"{name}: {value!r} is none of {choices}")


def _name(node: Any) -> str:
    tag: str = node.tag
    return tag.rpartition("}")[2]


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise OutOfModel(fault)
