"""The OpenAPI 3.1 document of the admin API, made from its endpoint tables (sans-I/O)."""

from __future__ import annotations

from typing import Any

import msgspec

from s3front.admin.endpoint import Endpoint, Nothing, PathPart
from s3front.admin.inputs import JSON_CONTENT_TYPE, needs_body
from s3front.admin.problem import PROBLEM_CONTENT_TYPE, ProblemDocument

BASE_PATH = "/-/admin/v1"
_REF = "#/components/schemas/{name}"
_MEANINGS = {
    400: "The request can't be understood; `errors` name the fields.",
    401: "Not signed, or not by a key that is known here.",
    403: "The key's role does not allow this.",
    404: "There is no such thing.",
    405: "The path does not have this method.",
    409: "Not in the store's present state.",
    413: "The body is too large.",
    415: "Only JSON is understood.",
    500: "A fault of the store; its log has the request id.",
    503: "The catalog or the nodes can't do it now; try again.",
}
_ABOUT = (
    "Signature Version 4 as for S3 (service `s3`, the region of the store), by the root key or a key of the role "
    "admin. What changes something is signed by header, with the SHA-256 of its body in x-amz-content-sha256; "
    "presigned URLs can read."
)


def openapi_document(endpoints: tuple[Endpoint, ...], release: str) -> dict[str, Any]:
    """The whole document, as JSON would have it. Schemas come from the types, limits and descriptions with them."""
    types: list[Any] = [ProblemDocument]
    for endpoint in endpoints:
        types += [endpoint.answers, endpoint.query, *([endpoint.body] if endpoint.body else [])]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        template = BASE_PATH + "".join(f"/{_in_template(part)}" for part in endpoint.parts)
        methods = paths.setdefault(template, {})
        name = endpoint.method.lower()
        assert name not in methods, f"{endpoint.method} {template} is there twice"
        methods[name] = _operation(endpoint, schema_of, components)
    for kind in {endpoint.query for endpoint in endpoints} | {Nothing}:
        components.pop(_name_of(schema_of.get(id(kind), {})), None)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Trivet admin API",
            "version": release,
            "description": "Watches and runs a Trivet store. Times are ISO 8601, UTC. Problems are RFC 9457 documents.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"signature": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(_tag(endpoint) for endpoint in endpoints)],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {f"Problem{status}": _problem(text) for status, text in _MEANINGS.items()},
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": _ABOUT,
                }
            },
        },
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))  # defaults may be tuples
    return plain


def _operation(
    endpoint: Endpoint, schema_of: dict[int, dict[str, Any]], components: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    query = components.get(_name_of(schema_of[id(endpoint.query)]), {})
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "tags": [_tag(endpoint)],
        "parameters": [
            *(_path_parameter(part) for part in endpoint.parts if part.kind != "literal"),
            *(
                _query_parameter(name, schema, required=name in query["required"])
                for name, schema in query.get("properties", {}).items()
            ),
        ],
        "responses": {
            str(endpoint.status): _success(endpoint, schema_of[id(endpoint.answers)]),
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in _refusals(endpoint)
            },
        },
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": needs_body(endpoint.body),
            "content": {JSON_CONTENT_TYPE: {"schema": schema_of[id(endpoint.body)]}},
        }
    return operation


def _success(endpoint: Endpoint, schema: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string"}
    headers = {"x-request-id": {"schema": text, "description": "as in the log"}}
    if endpoint.status in (201, 202):
        headers["location"] = {"schema": text, "description": "where it can be looked at from now on"}
    if endpoint.status == 204:
        return {"description": "Done.", "headers": headers}
    content: dict[str, Any] = {JSON_CONTENT_TYPE: {"schema": schema}}
    content |= {kind: {"schema": {"type": "string"}} for kind in endpoint.downloads}
    return {"description": "Done.", "headers": headers, "content": content}


def _refusals(endpoint: Endpoint) -> list[int]:
    found = {401, 403, 500, 503, *endpoint.refusals}
    if endpoint.query is not Nothing or endpoint.body is not None:
        found.add(400)
    if endpoint.method != "GET":
        found |= {400, 409}
    if endpoint.body is not None:
        found |= {413, 415}
    if any(part.kind != "literal" for part in endpoint.parts):
        found |= {400, 404}
    return sorted(found)


def _problem(text: str) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name=ProblemDocument.__name__)}
    return {"description": text, "content": {PROBLEM_CONTENT_TYPE: {"schema": schema}}}


def _path_parameter(part: PathPart) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if part.kind == "int":
        schema = {"type": "integer", "minimum": 0}
    parameter = {"name": part.text, "in": "path", "required": True, "schema": schema}
    if part.kind == "path":
        parameter["description"] = "with its slashes, which need not be encoded"
    return parameter


def _query_parameter(name: str, schema: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """What may be left out is not null when it is given."""
    shown = dict(schema)
    kinds = [kind for kind in shown.pop("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        shown |= kinds[0]
        if shown.get("default", 0) is None:
            del shown["default"]
    elif kinds:
        shown["anyOf"] = kinds
    parameter = {"name": name, "in": "query", "required": required, "schema": shown}
    if "description" in shown:
        parameter["description"] = shown.pop("description")
    return parameter


def _in_template(part: PathPart) -> str:
    return part.text if part.kind == "literal" else f"{{{part.text}}}"


def _tag(endpoint: Endpoint) -> str:
    return endpoint.parts[0].text


def _name_of(schema: dict[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]
