"""Writes docs/api.md from the OpenAPI document, docs/s3-compatibility.md from the table of operations and
docs/configuration.md from that of settings, for people: ``python -m compose.api_document`` (make docs)."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.version import VERSION
from compose import configuration_document
from s3front import compatibility
from s3front.admin.api import ENDPOINTS
from s3front.admin.openapi import BASE_PATH, openapi_document

PATH = Path(__file__).resolve().parent.parent / "docs" / "api.md"
COMPATIBILITY_PATH = PATH.with_name("s3-compatibility.md")

HEAD = f"""# The admin API

Written by `make docs` from the endpoints' own tables; the same as OpenAPI 3.1 is served by every front at
`/-/admin/openapi.json`, without a signature. All paths below stand under `{BASE_PATH}`.

**Signing.** Requests are signed with Signature Version 4 like those of S3 (service `s3`, the region of the store), by
the root key or a key of the role `admin` (`trivet key create --role admin`). What changes something is signed by
header, with the SHA-256 of its body in `x-amz-content-sha256`; presigned URLs can only read. curl can sign (newer ones
set that header by themselves):

```sh
admin() {{ # METHOD PATH [BODY]
  curl -sS -X "$1" --aws-sigv4 aws:amz:us-east-1:s3 --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\
    -H "x-amz-content-sha256: $(printf %s "${{3:-}}" | sha256sum | cut -c -64)" \\
    ${{3:+-H content-type:application/json --data-binary "$3"}} "http://127.0.0.1:9000{BASE_PATH}$2"
}}

admin GET /cluster/stats
admin GET '/cluster/events?kind=node-down&limit=10'
admin POST /cluster/recovery/node-2 '{{"lost": false}}'
```

**Answers** are JSON. Times are ISO 8601 in UTC and end in `_at`; sizes are bytes. Each answer has an `x-request-id`,
which the log of the front has too. What takes long answers 202 with an operation and its `location`: ask there how far
it is, delete it there to cancel it.

**Problems** are documents of RFC 9457 (`application/problem+json`): `type` is the same for all of a kind
(`urn:trivet:problem:…`), `detail` says what to do, `errors` names the fields that can't be used
(`query.limit`, `body.role`, `path.id`).

**Without a signature**: `/-/health/live` (the process lives), `/-/health/ready` (200 when this front can store and
read), `/-/health/cluster` (200 while all objects can be read, 503 when some can't or soon may not; with reasons in
words), and `/-/metrics` for Prometheus (with `Authorization: Bearer`, when `TRIVET_METRICS_TOKEN` is set).
"""


def main() -> int:
    """Write the files; with ``--check`` only say whether they are as they should be (exit code 1 when not)."""
    stale = False
    for path, text in (
        (PATH, document()),
        (COMPATIBILITY_PATH, compatibility.document()),
        (configuration_document.PATH, configuration_document.document()),
    ):
        if "--check" not in sys.argv[1:]:
            path.write_text(text)
            print(f"written: {path}")
        elif path.read_text() != text:
            print(f"{path} is not current: make docs", file=sys.stderr)
            stale = True
    return 1 if stale else 0


def document() -> str:
    """The whole text."""
    described = openapi_document(ENDPOINTS, VERSION)
    return "\n".join([HEAD, *_endpoints(described), *_types(described)]).rstrip() + "\n"


def _endpoints(described: dict[str, Any]) -> Iterator[str]:
    for tag in described["tags"]:
        yield f"## {tag['name'].capitalize()}\n"
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _endpoint(method.upper(), path.removeprefix(BASE_PATH), operation)


def _endpoint(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method} {path}\n"
    yield operation["summary"].rstrip(".") + ".\n"
    if operation["parameters"]:
        yield "| parameter | in | type | |\n| --- | --- | --- | --- |"
        for parameter in operation["parameters"]:
            about = _about(parameter["schema"], parameter.get("description", ""))
            required = "; must be given" if parameter["required"] and parameter["in"] == "query" else ""
            yield f"| `{parameter['name']}` | {parameter['in']} | {_type(parameter['schema'])} | {about}{required} |"
        yield ""
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        optional = "" if operation["requestBody"]["required"] else ", which may be left out"
        yield f"Body: {_type(schema)}{optional}.\n"
    yield " ".join(_answers(operation["responses"])) + "\n"


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    for status, response in responses.items():
        if status.startswith("2"):
            kinds = [
                _type(content["schema"]) if "json" in kind else f"`{kind}`"
                for kind, content in response.get("content", {}).items()
            ]
            yield f"Answer: {status}{', ' if kinds else ''}{' or '.join(kinds)}."
    refusals = ", ".join(status for status in responses if not status.startswith("2"))
    yield f"Problems: {refusals}."


def _types(described: dict[str, Any]) -> Iterator[str]:
    yield "## Types\n"
    for name, schema in sorted(described["components"]["schemas"].items()):
        yield f"### {name}\n"
        if "description" in schema:
            yield _one_line(schema["description"]) + "\n"
        if "properties" not in schema:
            yield _type(schema) + "\n"
            continue
        required = schema.get("required", ())
        yield "| field | type | |\n| --- | --- | --- |"
        for field, kind in schema["properties"].items():
            about = _about(kind, kind.get("description", ""))
            must = "must be given" if field in required and _is_asked(schema) else ""
            yield f"| `{field}` | {_type(kind)} | {'; '.join(filter(None, (about, must)))} |"
        yield ""


def _is_asked(schema: dict[str, Any]) -> bool:
    """Bodies refuse fields that they do not know; answers may grow."""
    return schema.get("additionalProperties") is False


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(kind) for kind in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items') or {})}" if schema.get("items") else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type(schema['additionalProperties'])}"
    return str(kind)


_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches `{}`",
}


def _about(schema: dict[str, Any], description: str) -> str:
    """In the cell of a table: what it is, and its limits."""
    parts = [_one_line(description)]
    for kind in (schema, *schema.get("anyOf", ())):
        parts += [words.format(_code(kind[name])) for name, words in _LIMITS.items() if name in kind]
        if kind is not schema and "description" in kind:
            parts.append(_one_line(kind["description"]))
    if schema.get("default") not in (None, "", [], {}):
        parts.append(f"default `{str(schema['default']).lower()}`")
    if schema.get("examples"):
        parts.append(f"as `{schema['examples'][0]}`")
    return "; ".join(part for part in dict.fromkeys(parts) if part and part != "at least 1 characters")


def _code(value: object) -> str:
    return repr(value)[1:-1].replace("|", "\\|") if isinstance(value, str) else str(value)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
