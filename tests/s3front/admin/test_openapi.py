"""The OpenAPI document: valid, complete, and made from the tables."""

from __future__ import annotations

from typing import Annotated

import msgspec
from openapi_spec_validator import validate

from s3front.admin.api import ENDPOINTS
from s3front.admin.endpoint import Call, Endpoint
from s3front.admin.openapi import BASE_PATH, openapi_document
from s3front.admin.services import AdminServices


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the test."""

    wanted: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=9, description="how many")] = 3
    kind: Annotated[str, msgspec.Meta(max_length=5)] | None = None


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the test."""

    tags: tuple[str, ...] = ()


async def _nothing(_services: AdminServices, _call: Call) -> None:
    return None


ONE = Endpoint(
    "POST", "/things/{id:int}/{key:path}", "doThing", "Do.", _nothing, Body, Query, Body, status=202
)


def test_the_document_is_valid() -> None:
    """Red when a default is a tuple, which is no JSON value: the validator refuses the document."""
    validate(openapi_document(ENDPOINTS, "1.0"))
    validate(openapi_document((ONE,), "1.0"))


def test_every_endpoint_is_in_it() -> None:
    """Also: no two have one name, and each says in a sentence what it does."""
    document = openapi_document(ENDPOINTS, "1.0")
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len(operations) == len(ENDPOINTS)
    assert len({operation["operationId"] for operation in operations}) == len(ENDPOINTS)
    assert all(len(operation["summary"]) > 10 for operation in operations)


def test_every_whole_number_of_a_query_is_one_that_the_catalog_can_take() -> None:
    """Red when the numbers between which events are asked for had no upper limit: larger ones were
    answered with 500."""
    document = openapi_document(ENDPOINTS, "1.0")
    parameters = [
        (operation["operationId"], parameter["name"], form)
        for methods in document["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
        for form in (parameter["schema"], *parameter["schema"].get("anyOf", ()))
        if form.get("type") == "integer"
    ]
    assert len(parameters) >= 5
    assert [which for *which, form in parameters if not form.get("maximum", 1 << 64) < 1 << 63] == []


def test_parameters_bodies_and_refusals_follow_from_the_types() -> None:
    """Red when limits of a query's fields are left out."""
    document = openapi_document((ONE,), "1.0")
    operation = document["paths"][BASE_PATH + "/things/{id}/{key}"]["post"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    assert parameters["id"]["schema"] == {"type": "integer", "minimum": 0}
    assert parameters["key"]["in"] == "path"
    assert parameters["wanted"]["required"]
    limit = parameters["limit"]
    assert (limit["description"], limit["required"]) == ("how many", False)
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 9, "default": 3}
    assert parameters["kind"]["schema"] == {"type": "string", "maxLength": 5}
    assert not operation["requestBody"]["required"]
    assert set(operation["responses"]) == {
        "202",
        "400",
        "401",
        "403",
        "404",
        "409",
        "413",
        "415",
        "500",
        "503",
    }
    assert "Query" not in document["components"]["schemas"]
    assert not document["components"]["schemas"]["Body"]["additionalProperties"]


def test_what_changes_something_is_no_get() -> None:
    """A GET is signed without its body, may be presigned, and crawlers follow links."""
    for endpoint in ENDPOINTS:
        assert (endpoint.body is None) or endpoint.method != "GET", endpoint.name
        assert endpoint.name[0].islower()
        assert endpoint.query is not None
