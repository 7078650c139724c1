"""A transaction that remembers what it changed, for the record of its batch (S17)."""

from __future__ import annotations

from typing import Any

from catalog.batch_records import Step
from catalog.statement import Parameters, Row, Statement
from catalog.transaction import Transaction

_CHANGING = ("INSERT", "UPDATE", "DELETE")


class RecordingTransaction(Transaction):
    """What is rolled back leaves nothing in the record."""

    __slots__ = ("_kept", "_steps")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._steps: list[tuple[str, Parameters, int | list[Row]]] = []
        self._kept = 0

    def execute(self, statement: Statement, parameters: Parameters = ()) -> int:
        """See `Transaction.execute`."""
        cursor = self._cursor
        text = statement.text(self._dialect)
        cursor.execute(text, parameters)
        count = cursor.rowcount
        # An insert that found its row there may have used up a number.
        if count or text.startswith("INSERT"):
            self._steps.append((text, parameters, count))
        return count

    def rows(self, statement: Statement, parameters: Parameters = ()) -> list[Row]:
        """See `Reader.rows`."""
        cursor = self._cursor
        text = statement.text(self._dialect)
        cursor.execute(text, parameters)
        rows = cursor.fetchall()
        if text.startswith(_CHANGING):
            self._steps.append((text, parameters, rows))
        return rows

    def row(self, statement: Statement, parameters: Parameters = ()) -> Row | None:
        """See `Reader.row`."""
        rows = self.rows(statement, parameters)
        return rows[0] if rows else None

    def kept(self) -> None:
        """See `Transaction.kept`."""
        super().kept()
        self._kept = len(self._steps)

    def rolled_back(self) -> None:
        """See `Transaction.rolled_back`."""
        super().rolled_back()
        del self._steps[self._kept :]

    @property
    def changed(self) -> bool:
        """Whether there is anything to record."""
        return bool(self._steps)

    def steps(self) -> tuple[list[str], list[Step]]:
        """The texts, each once, and what was run, in order."""
        numbers: dict[str, int] = {}
        steps = [
            Step(numbers.setdefault(text, len(numbers)), tuple(parameters), outcome)
            for text, parameters, outcome in self._steps
        ]
        return list(numbers), steps
