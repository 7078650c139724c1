"""One line on stderr for each event: time (UTC), process, level, logger, message."""

from __future__ import annotations

import logging
import sys
import time

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


class LineFormatter(logging.Formatter):
    """Keeps an event on one line, tracebacks too: a message can't forge the line of another event."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process} %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\\n").replace("\r", "\\r")


def configure(process: str, level: str) -> None:
    """Sets up the root logger of this process; `process` is its name in DIR/run, for example ``node-1``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # These tell of what goes well what we tell already, or what nobody asked.
    for name in ("uvicorn.error", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
