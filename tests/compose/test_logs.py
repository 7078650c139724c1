"""One event, one line."""

import logging

from compose.logs import LineFormatter


def test_a_message_cannot_forge_another_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "key %s", ("a\n2026 node-1 ERROR lies\r",), None)
    record.created = 0.0
    record.msecs = 0.0
    line = LineFormatter("front-1").format(record)
    assert line == "1970-01-01T00:00:00.000Z front-1 INFO x: key a\\n2026 node-1 ERROR lies\\r"


def test_a_traceback_stays_on_the_line() -> None:
    try:
        int("broken")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "", 0, "failed", (), (type(error), error, error.__traceback__)
        )
    line = LineFormatter("front-1").format(record)
    assert "\n" not in line
    assert "ValueError: invalid literal" in line
