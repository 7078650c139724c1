"""One event, one line, in both formats."""

import json
import logging
import sys

from compose.logs import JsonFormatter, LineFormatter


def _record(level: int, message: str, *arguments: object) -> logging.LogRecord:
    record = logging.LogRecord("x", level, "", 0, message, arguments, None)
    record.created = 0.0
    record.msecs = 0.0
    return record


def _failed_record() -> logging.LogRecord:
    record = _record(logging.ERROR, "failed")
    try:
        int("broken")
    except ValueError:
        record.exc_info = sys.exc_info()
    return record


def test_a_message_cannot_forge_another_line() -> None:
    line = LineFormatter("front-1").format(_record(logging.INFO, "key %s", "a\n2026 node-1 ERROR lies\r"))
    assert line == "1970-01-01T00:00:00.000Z front-1 INFO x: key a\\n2026 node-1 ERROR lies\\r"


def test_a_message_cannot_command_a_terminal() -> None:
    """Names that clients make up are logged, and somebody looks at the log. Red when only line ends were escaped."""
    hostile = "a\x1b[2J\x9b2J\x85b\u2028c\x00\x7fé\t✓"
    line = LineFormatter("front-1").format(_record(logging.INFO, "key %s", hostile))
    assert line.endswith("key a\\x1b[2J\\x9b2J\\x85b\\u2028c\\x00\\x7fé\t✓")


def test_a_traceback_stays_on_the_line() -> None:
    line = LineFormatter("front-1").format(_failed_record())
    assert "\n" not in line
    assert "ValueError: invalid literal" in line


def test_the_request_that_is_worked_for_is_named() -> None:
    """Red when the id is taken once, at the start, instead of at each event."""
    ids = iter(("", "0A1B"))
    formatter = LineFormatter("front-1", lambda: next(ids))
    assert formatter.format(_record(logging.INFO, "up")).endswith(" INFO x: up")
    assert formatter.format(_record(logging.INFO, "slow")).endswith(" INFO x: [0A1B] slow")


def test_json_says_the_same_in_fields() -> None:
    record = _record(logging.WARNING, "key %s\n", "a\x00\u2028")
    record.facts = {"status": 503, "node": b"\xff"}
    line = JsonFormatter("front-1", lambda: "0A1B").format(record)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000Z",
        "process": "front-1",
        "level": "warning",
        "logger": "x",
        "message": "key a\x00\u2028\n",
        "request_id": "0A1B",
        "facts": {"status": 503, "node": "/w=="},
    }


def test_json_holds_a_traceback_on_one_line() -> None:
    line = JsonFormatter("node-1").format(_failed_record())
    assert "\n" not in line
    event = json.loads(line)
    assert "ValueError: invalid literal" in event["exception"]
    assert "request_id" not in event
