"""Whatever bytes arrive: a value of the type that was asked for, or a problem of 4xx. Nothing else gets out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3front.admin.endpoint import Call, Endpoint, Nothing
from s3front.admin.inputs import BODY_BYTES_MAX, body_of, path_values, query_of
from s3front.admin.problem import Problem
from s3front.admin.services import AdminServices

JSON = {"content-type": "application/json"}


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A query or a body."""

    name: Annotated[str, msgspec.Meta(max_length=5)] = ""
    count: Annotated[int, msgspec.Meta(ge=0, le=9)] = 0
    flag: bool = False
    share: float | None = None
    tags: list[str] = []
    colour: Literal["red", "green"] | None = None


async def _nothing(_services: AdminServices, _call: Call) -> Nothing:
    return Nothing()


T = TypeVar("T")


def _told(read: Callable[[], T], where: str) -> T | None:
    """What is read; None for a problem with a field there."""
    try:
        return read()
    except Problem as problem:
        if problem.status != 400 or not problem.errors[0].field.startswith(where):
            raise
        return None


PARTS = Endpoint("GET", "/a/{id:int}/{key:path}", "get", "Get.", _nothing, Nothing).parts
_likely = st.lists(
    st.sampled_from(
        [b"name", b"count", b"flag", b"=", b"&", b"%", b"%41", b"%FF", b"+", b"1", b"true", b"\xc3"]
    )
).map(b"".join)


@given(st.one_of(st.binary(max_size=60), _likely))
@example(b"count=%31")
@example(b"X-Amz-Date=x&X-Amz-Date=y")
def test_any_query(raw: bytes) -> None:
    """Red when UnicodeDecodeError or a ValidationError gets out: the client would get 500."""
    found = _told(lambda: query_of(Wanted, raw), "query")
    assert found is None or 0 <= found.count <= 9


@given(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode)))
@example(b'{"name":' + b"[" * 50_000)
@example(b"[" * BODY_BYTES_MAX)
@example(b'{"tags":' + b"[" * 50_000)
@example(b'{"zz":' + b'{"a":' * 10_000)
@example(b'{"count":' + b"9" * 60_000 + b"}")
@example(b'{"share":1e999}')
@example(b'{"name":"\\ud800"}')
@example(b"\xef\xbb\xbf{}")
def test_any_body(data: bytes) -> None:
    """Also nested so deep that a parser that recurses would end."""
    found = _told(lambda: body_of(Wanted, data, JSON), "body")
    assert found is None or 0 <= found.count <= 9


@given(
    st.lists(st.one_of(st.binary(max_size=6), st.sampled_from([b"a", b"7", b"", b"%2F", b"%"])), max_size=5)
)
def test_any_path(raw: list[bytes]) -> None:
    """A parameter that is there has a value. It was red: a number before a `path` parameter was not checked."""
    found = _told(lambda: path_values(PARTS, raw), "path.")
    assert found is None or (found["id"].isdigit() and found["key"])


@pytest.mark.parametrize("text", ["1", "true", "True", "TRUE"])
def test_flags(text: str) -> None:
    """As people write them."""
    assert query_of(Wanted, f"flag={text}".encode()).flag


@pytest.mark.parametrize(
    "read",
    [lambda: query_of(Wanted, b"colour=blue"), lambda: body_of(Wanted, b'{"colour":"blue"}', JSON)],
    ids=["query", "body"],
)
def test_a_choice_is_told_with_what_there_is(read: Callable[[], Wanted]) -> None:
    """Red when only the wrong value is named."""
    with pytest.raises(Problem) as caught:
        read()
    assert caught.value.errors[0].field.endswith(".colour")
    assert caught.value.errors[0].detail == "must be one of green, red"
