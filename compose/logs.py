"""One line on stderr for each event, as text or as JSON: time (UTC), process, level, logger, request, message.

What a front does for a client carries the request's id, the one that the client sees in `x-amz-request-id`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import msgspec

from compose.printable import printable

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

RequestId = Callable[[], str]
"""The id of the request that the caller works for; empty when it works for none."""

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"


def no_request() -> str:
    """The RequestId of processes that serve no clients."""
    return ""


class LineFormatter(logging.Formatter):
    """Keeps an event on one line, tracebacks too: a message can't forge the line of another event, nor command the
    terminal that shows it."""

    converter = staticmethod(time.gmtime)
    default_time_format = _TIME_FORMAT
    default_msec_format = "%s.%03dZ"

    def __init__(self, process: str, request_id: RequestId = no_request) -> None:
        super().__init__(f"%(asctime)s {process} %(levelname)s %(name)s: %(request)s%(message)s")
        self._request_id = request_id

    def format(self, record: logging.LogRecord) -> str:
        request_id = self._request_id()
        record.request = f"[{request_id}] " if request_id else ""
        return printable(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line; `request_id` and `exception` only where there are such. What a log call gives as
    ``extra={"facts": {…}}`` stands in `facts`."""

    def __init__(self, process: str, request_id: RequestId = no_request) -> None:
        super().__init__()
        self._process = process
        self._request_id = request_id

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime(_TIME_FORMAT, time.gmtime(record.created))
        event: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "process": self._process,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := self._request_id():
            event["request_id"] = request_id
        if facts := getattr(record, "facts", None):
            event["facts"] = facts
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event, enc_hook=str).decode()


def configure(process: str, level: str, form: str = "text", request_id: RequestId = no_request) -> None:
    """Sets up the root logger of this process; `process` is its name in DIR/run, for example ``node-1``."""
    formatter = JsonFormatter if form == "json" else LineFormatter
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(process, request_id))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # These tell of what goes well what we tell already, or what nobody asked.
    for name in ("uvicorn.error", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
