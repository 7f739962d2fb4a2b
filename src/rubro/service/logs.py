"""Write the log of the service: JSON for programs, and plain messages in a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_LOG = logging.getLogger("rubro.service")


def write_logs() -> None:
    """Write the log to standard error: messages if it is a terminal, one JSON object per line if not."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter() if sys.stderr.isatty() else _JsonLines())
    logging.getLogger().addHandler(handler)
    _LOG.setLevel(logging.INFO)


def log_event(event: str, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write a line to the log.

    Args:
        event: Name of the event, such as start.
        message: Sentence for people.
        level: Level of the logging package.
        fields: Further fields of the JSON object. If exc_info is one of them and true, the traceback
            of the present exception is written.
    """
    exc_info = fields.pop("exc_info", None)
    _LOG.log(level, "%s", message, exc_info=exc_info, extra={"event": event, "fields": fields})


class _JsonLines(logging.Formatter):
    """Formatter that writes a record as a JSON object, in which control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a JSON object on one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),  # packages have no names for events
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
