"""The table of operations, the shapes of documents and AWS's service model, as botocore has it, say the same."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from s3front.handlers.bucket_documents import KINDS, Kind
from s3front.operations import OPERATIONS
from s3front.wire.document_shapes import ACCESS_CONTROL
from s3front.wire.shapes import BOOLEAN, NUMBER, TEXT, Shape, Text, members, one_of
from tests.service_model import MODEL, OutOfModel, check


def model_names() -> set[str]:
    return set(MODEL.operation_names)


def test_every_operation_of_the_model_is_in_the_table() -> None:
    """By its name, or by the name of the form that replaced it. Red when a new botocore knows one more."""
    ours = {row.name for row in OPERATIONS} | {row.old_name for row in OPERATIONS if row.old_name}
    assert model_names() == ours


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.name)
def test_rows_have_the_requests_of_the_model(row: Any) -> None:
    """Method, target and subresource are those with which SDKs send the operation."""
    http = MODEL.operation_model(row.name).http
    path, _, query = http["requestUri"].partition("?")
    assert row.method == http["method"]
    target = "object" if "{Key+}" in path else "service" if path == "/" else "bucket"
    assert row.target == target
    fixed = [
        name for name, _ in parse_qsl(query, keep_blank_values=True) if name not in ("x-id", "select-type")
    ]
    inputs = MODEL.operation_model(row.name).input_shape
    sent = {member.serialization.get("name", "").lower() for member in inputs.members.values()}
    assert fixed in ([row.subresource], []), "one subresource"
    assert fixed or not row.subresource or row.subresource.lower() in sent
    assert not row.parameter or row.parameter.lower() in sent
    assert not row.header or row.header in sent


def of_model(shape: Any) -> Shape:
    """botocore's shape of a structure in the notation of ours."""
    found: dict[str, Shape | Text] = {}
    for key, member in shape.members.items():
        name, required = member.serialization.get("name", key), key in shape.required_members
        if member.serialization.get("xmlAttribute"):
            found[f"@{name}{'!' if required else ''}"] = leaf(member)
        elif member.type_name == "list" and member.serialization.get("flattened"):
            found[f"{name}{'+' if required else '*'}"] = leaf(member.member)
        elif member.type_name == "list":
            inner = member.member.serialization.get("name", "member")
            found[f"{name}{'!' if required else ''}"] = {f"{inner}*": leaf(member.member)}
        else:
            found[f"{name}{'!' if required else ''}"] = leaf(member)
    return found


def leaf(shape: Any) -> Shape | Text:
    match shape.type_name:
        case "structure":
            return of_model(shape)
        case "integer":
            return NUMBER
        case "boolean":
            return BOOLEAN
    return one_of(*shape.enum) if getattr(shape, "enum", None) else TEXT


def put_shape(kind: Kind) -> tuple[str, Any]:
    """The name of the root and the shape of what a PUT of this kind brings."""
    (row,) = [o for o in OPERATIONS if o.subresource == kind.name and o.method == "PUT"]
    shape = MODEL.operation_model(row.name).input_shape
    payload = shape.serialization["payload"]
    return shape.members[payload].serialization.get("name", payload), shape.members[payload]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_documents_have_the_shapes_of_the_model(kind: Kind) -> None:
    """Elements, what is required, how often, and every enumeration. Red when an element or a choice is left out."""
    root, shape = put_shape(kind)
    assert kind.root == root
    assert kind.shape == of_model(shape)


def test_access_control_lists_have_the_shape_of_the_model() -> None:
    """They are read with the same notation."""
    shape = MODEL.operation_model("PutBucketAcl").input_shape
    assert of_model(shape.members[shape.serialization["payload"]]) == ACCESS_CONTROL


def test_the_notation_is_read_as_written() -> None:
    """Names end in how often they may come."""
    shape: Shape = {"A": TEXT, "B!": TEXT, "C*": TEXT, "D+": TEXT, "@xsi:type!": TEXT}
    read = [(m.name, m.required, m.several, m.attribute) for m in members(shape)]
    assert read == [
        ("A", False, False, False),
        ("B", True, False, False),
        ("C", False, True, False),
        ("D", True, True, False),
        ("xsi:type", True, False, True),
    ]


LIST = "<ListBucketResult><Name>b</Name><MaxKeys>{keys}</MaxKeys>{more}</ListBucketResult>"


@pytest.mark.parametrize(
    ("operation", "headers", "body"),
    [
        ("ListObjects", {}, LIST.format(keys="1", more="<Nmae/>")),
        ("ListObjects", {}, LIST.format(keys="one", more="")),
        ("ListObjects", {}, LIST.format(keys="1", more="<Name>b</Name>")),
        ("ListObjects", {}, LIST.format(keys="1", more="<Contents><Kye>k</Kye></Contents>")),
        ("ListObjects", {}, LIST.format(keys="1", more="<EncodingType>utf</EncodingType>")),
        ("GetObjectTagging", {}, "<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>"),
        ("GetObjectTagging", {}, "<Tagging><TagSet><Tga/></TagSet></Tagging>"),
        ("GetObjectTagging", {}, "<Tagging/>"),
        ("GetPublicAccessBlock", {}, "<PublicAccessBlock/>"),
        ("GetBucketAcl", {}, "<A><AccessControlList><Grant><Grantee/></Grant></AccessControlList></A>"),
        ("GetBucketLocation", {}, "<LocationConstraint><LocationConstraint/></LocationConstraint>"),
        ("PutBucketTagging", {}, "<Done/>"),
        ("PutObject", {"x-amz-verison-id": "1"}, ""),
        ("HeadObject", {"Last-Modified": "2026-01-01"}, ""),
    ],
)
def test_the_checker_sees_what_is_wrong(operation: str, headers: dict[str, str], body: str) -> None:
    """Unknown, missing, doubled and misspelt, in bodies and headers."""
    with pytest.raises(OutOfModel):
        check(operation, 200, headers, body.encode(), has_body=operation != "HeadObject")


def test_the_checker_lets_pass_what_is_right() -> None:
    """So that the cases above fail for the reason they name."""
    more = "<Contents><Key>k</Key><Size>1</Size></Contents><Contents><Key>l</Key></Contents>"
    check("ListObjects", 200, {"x-amz-request-id": "1"}, LIST.format(keys="1", more=more).encode())
    check("GetObjectTagging", 200, {}, b"<Tagging><TagSet/></Tagging>")
    check("GetBucketLocation", 200, {}, b"<LocationConstraint>eu</LocationConstraint>")
    check("GetBucketLocation", 404, {}, b"<Error><Code>N</Code><Message/><RequestId/><HostId/></Error>")
    with pytest.raises(OutOfModel):
        check("GetBucketLocation", 404, {}, b"<Error><Code>NoSuchBucket</Code></Error>")
