"""Statements written in SQLAlchemy Core, compiled once per dialect, run on the driver's own cursor.

Going through `Connection.execute` costs 20-35 µs a statement, this way 3-4 µs (measured); the price is that
parameters are positional and values are passed as the driver takes them: int, str, bytes, None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import BindParameter

Row = tuple[Any, ...]
Value = int | str | bytes | None
Parameters = Sequence[Value]

EVERY: list[Statement] = []
"""All statements of the process, for the test that compiles each for each dialect."""


class Statement:
    """One statement. `names` are its parameters in the order in which the compiled text takes them, which
    is checked at compilation: a statement whose order was misread can't run."""

    __slots__ = ("_expression", "_names", "_text_by_dialect")

    def __init__(self, expression: sa.Executable, *names: str) -> None:
        self._expression = expression
        self._names = names
        self._text_by_dialect: dict[str, str] = {}
        EVERY.append(self)

    def text(self, dialect: Dialect) -> str:
        """The compiled text; the dialect's parameter style must be positional."""
        known = self._text_by_dialect.get(dialect.name)
        return known if known is not None else self._compile(dialect)

    def _compile(self, dialect: Dialect) -> str:
        columns = list(self._names) if isinstance(self._expression, sa.Insert) else None
        compiled = self._expression.compile(dialect=dialect, column_keys=columns)  # type: ignore[attr-defined]
        order = tuple(compiled.positiontup or ())
        if order != self._names:
            raise TypeError(f"parameters are declared as {self._names}, the text takes {order}")
        text = str(compiled)
        self._text_by_dialect[dialect.name] = text
        return text


class Cursor(Protocol):
    """What is used of a DBAPI cursor."""

    rowcount: int

    def execute(self, text: str, parameters: Any = ..., /) -> Any: ...
    def fetchall(self) -> list[Row]: ...


# SQLite's readers see one moment and change nothing by themselves (query_only).
_BEGIN_READING = {
    "sqlite": "BEGIN",
    "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
}


class Reader:
    """Reads on one connection. Each call fetches all its rows, so that the statement is finished when it
    returns and nothing keeps the connection's snapshot alive (S16)."""

    __slots__ = ("_cursor", "_dialect")

    def __init__(self, cursor: Cursor, dialect: Dialect) -> None:
        self._cursor = cursor
        self._dialect = dialect

    def rows(self, statement: Statement, parameters: Parameters = ()) -> list[Row]:
        """All rows of the statement, which bounds their number itself."""
        cursor = self._cursor
        cursor.execute(statement.text(self._dialect), parameters)
        return cursor.fetchall()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All reads inside see one moment, and cost less. Not on the loop's connection: nothing there may
        stay open (S16)."""
        self._cursor.execute(_BEGIN_READING[self._dialect.name])
        try:
            yield
        finally:
            self._cursor.execute("ROLLBACK")

    def row(self, statement: Statement, parameters: Parameters = ()) -> Row | None:
        """The first row, or None."""
        cursor = self._cursor
        cursor.execute(statement.text(self._dialect), parameters)
        rows = cursor.fetchall()
        return rows[0] if rows else None


def parameter(name: str) -> BindParameter[Any]:
    """A parameter of a statement. Inserts name their columns instead."""
    return sa.bindparam(name)


def constant(text: str) -> sa.ColumnElement[Any]:
    """A constant written into the statement's text, so that it takes no parameter."""
    return sa.literal_column(text)


def page(query: sa.Select[Any]) -> sa.Select[Any]:
    """The query with its last parameter, `limit`, bounding the number of rows."""
    # As an expression: SQLite prepares a statement anew at each binding of a bare LIMIT parameter (3 µs of 6).
    # The constant offset keeps SQLAlchemy from adding a parameter of its own.
    limit = sa.bindparam("limit", type_=sa.Integer) + constant("0")
    return query.limit(limit).offset(constant("0"))
