"""How the server logs: for people or, one JSON object a line, for machines. Addresses only with --debug."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["configure_server_logging"]


class _JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_server_logging(*, as_json: bool, debug: bool) -> None:
    """On stderr; what changes for somebody (INFO) and up, with ``debug`` everything."""
    handler = logging.StreamHandler(sys.stderr)
    text = "%(asctime)s %(name)s %(levelname)s %(message)s" if debug else "midair: %(message)s"
    handler.setFormatter(_JSONLines() if as_json else logging.Formatter(text))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.WARNING)
    logging.getLogger("midair").setLevel(logging.DEBUG if debug else logging.INFO)
    # The WebSocket library logs frames, and with them what a server has no need to see twice.
    logging.getLogger("websockets").setLevel(logging.INFO if debug else logging.WARNING)
