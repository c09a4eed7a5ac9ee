"""Log records on standard error: readable lines, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from kandle.cli.values import iso_instant, json_value
from kandle.time.timeframe import SECOND

LOGGER = "kandle"
USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes that each record has; all others are what the caller gave with `extra`."""


class TextFormatter(logging.Formatter):
    """Time, level, message, then what else is known as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        details = " ".join(f"{name}={_text(value)}" for name, value in _details(record).items())
        return f"{_time(record)} {record.levelname.lower():<7} {record.getMessage()} {details}".rstrip()


class JsonFormatter(logging.Formatter):
    """The same as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        usual = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(usual | json_value(_details(record)), ensure_ascii=False, default=str)


def log_to_standard_error(*, as_json: bool) -> None:
    """Show what kandle logs from level INFO on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger = logging.getLogger(LOGGER)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    threading.excepthook = _log_error


def _log_error(what: threading.ExceptHookArgs) -> None:
    """An error that ended a thread is one line as well."""
    name = "a thread" if what.thread is None else what.thread.name
    logging.getLogger(LOGGER).error("%s has ended", name, extra={"error": f"{what.exc_type.__name__}: {what.exc_value}"})


def _time(record: logging.LogRecord) -> str:
    return iso_instant(round(record.created * 1000) * (SECOND // 1000))


def _details(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave, and the error if there is one."""
    given = {name: value for name, value in vars(record).items() if name not in USUAL}
    error = record.exc_info[1] if record.exc_info else None
    return given if error is None else given | {"error": f"{type(error).__name__}: {error}"}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(json_value(value), ensure_ascii=False, default=str)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) and (" " in text or "\n" in text) else text
