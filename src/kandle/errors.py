"""One tree of errors: everything that kandle raises on purpose is a `KandleError`.

Each class also inherits from the builtin that fits, so `except ValueError` works where a reader expects it to.
Messages name the thing, the valid choices and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal


class KandleError(Exception):
    """Base of all errors that kandle raises on purpose."""


class TimeframeError(KandleError, ValueError):
    """A timeframe, duration or instant that cannot be read or does not exist."""


class UnknownTimeframeError(TimeframeError, KeyError):
    """A timeframe for which there are no bars; names those for which there are."""

    # KeyError would show the message in quotes.
    __str__ = Exception.__str__


class ScheduleError(KandleError, ValueError):
    """Schedule rows that contradict each other or the plan."""


class ModelError(KandleError, TypeError):
    """An entity, a mapping or a context that is declared wrongly."""


class QueryError(ModelError):
    """A query that cannot be recorded or means nothing; names stage and expression."""


class PlanError(ModelError):
    """A query that is valid by itself but from which no bars can be derived."""


class OptionsError(KandleError, ValueError):
    """A configuration value that is unknown or wrong; names key and place."""


class DataError(KandleError, ValueError):
    """A value that does not fit its field; names entity, field, value and, where known, the row."""


class UnwritableError(DataError):
    """Records that cannot be written to their topics, among others that could; nothing was written.

    Attributes:
        rows: By the number of a write, the reason by the number of each of its records that cannot be written.
    """

    def __init__(self, message: str, rows: Mapping[int, Mapping[int, str]]) -> None:
        super().__init__(message)
        self.rows = rows


class InputError(KandleError, OSError):
    """A file that cannot be read as what it is said to be."""


class OutputError(KandleError, OSError):
    """A place that cannot be written."""


class MissingExtraError(KandleError, ImportError):
    """A package of an optional part of kandle is not installed; the message names the extra that brings it."""


class LogError(KandleError):
    """The log cannot do what was asked; base of its errors."""


class UnknownTopicError(LogError, LookupError):
    """A topic that is not there; names those that are."""


class SchemaError(LogError, TypeError):
    """Columns that do not fit a topic; names topic and column."""


class FencedError(LogError):
    """A partition belongs to another member by now; nothing was written."""


class ReplacedError(LogError):
    """Another process has joined the group under this member's name, so this one cannot go on."""


class StorageError(LogError, OSError):
    """The place of the log is full, damaged, locked or cannot be written."""


class UnavailableError(StorageError):
    """The place of the log cannot be used now, but may be later: its disk is full or another process keeps it locked."""


class AccessError(KandleError, PermissionError):
    """A set or context is asked for what its access mode does not allow."""


class StateError(KandleError, RuntimeError):
    """State that was kept does not belong to this declaration, or something is not running that must be."""


class KsqlError(KandleError, RuntimeError):
    """What a ksqlDB refuses or answers; `code` is its error code and `statement` the text that it names, where it gives them."""

    def __init__(self, message: str, code: int | None = None, statement: str | None = None) -> None:
        super().__init__(message)
        self.message, self.code, self.statement = message, code, statement


class KsqlUnavailableError(KsqlError):
    """A ksqlDB that cannot be reached or is not ready, but may be later."""


def unknown_name(message: str, name: str, choices: Sequence[str]) -> str:
    """Return the message with the valid names behind it, the one closest to `name` first.

    Args:
        message: What is unknown, without a full stop.
        name: The name that was given; empty where no suggestion makes sense.
        choices: The valid names.

    Returns:
        For example `Tick has no field 'prize'; did you mean 'price'? Choose from: name, price`.
    """
    if not choices:
        return f"{message}; there are none"
    close = difflib.get_close_matches(name, choices, 1)
    hint = f"did you mean {close[0]!r}? Choose from" if close else "choose from"
    return f"{message}; {hint}: {', '.join(choices)}"


Extra = Literal["arrow", "calendars", "kafka", "ksqldb", "rocksdb"]
"""The optional parts of an installation, as `pip install "kandle[...]"` names them."""


class OptionalImport:
    """A block of imports of packages that come with an extra of kandle.

    Args:
        purpose: What needs the packages, as the subject of a sentence ("The Kafka log").
        extra: The extra that brings them.

    Example:
        with OptionalImport("The Kafka log", "kafka"):
            import confluent_kafka
    """

    def __init__(self, purpose: str, extra: Extra) -> None:
        self._purpose, self._extra = purpose, extra

    def __enter__(self) -> None:
        """Enter the block."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Raise `MissingExtraError` in the place of the error of a package that is not installed."""
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtraError(
                f'{self._purpose} needs the package {error.name}, which is not installed: pip install "kandle[{self._extra}]"',
                name=error.name,
            ) from error
