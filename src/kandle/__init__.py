"""kandle turns event streams into time bars: live, final exactly once, without gaps, in every timeframe from one declaration."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kandle.backfill.backfill import Backfill, backfill
from kandle.context.context import Context
from kandle.context.model import ModelBuilder
from kandle.errors import KandleError
from kandle.model.markers import (
    Alias,
    DatetimeFormat,
    Header,
    Ignore,
    Key,
    MaxLength,
    Precision,
    Timestamp,
    stream,
    table,
)
from kandle.plan.explain import explain
from kandle.plan.plan import plan
from kandle.query import functions
from kandle.query.query import Gaps, Late
from kandle.sets.bars import BarSet, TimeBucket
from kandle.sets.messages import Message
from kandle.sets.sets import EventSet, TableSet
from kandle.time.timeframe import Period, Timeframe

if TYPE_CHECKING:
    from kandle import testing
    from kandle.context.options import Options
    from kandle.runtime.counters import Health

__version__ = "0.1.0"

__all__ = [
    "Alias",
    "Backfill",
    "BarSet",
    "Context",
    "DatetimeFormat",
    "EventSet",
    "Gaps",
    "Header",
    "Health",
    "Ignore",
    "KandleError",
    "Key",
    "Late",
    "MaxLength",
    "Message",
    "ModelBuilder",
    "Options",
    "Period",
    "Precision",
    "TableSet",
    "TimeBucket",
    "Timeframe",
    "Timestamp",
    "backfill",
    "explain",
    "functions",
    "plan",
    "stream",
    "table",
    "testing",
]

_LAZY = {
    "Health": "kandle.runtime.counters",
    "Options": "kandle.context.options",
    "testing": "kandle.testing",
}
"""Names that are imported when they are first used, since what they need takes long to load."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_LAZY[name])
    return module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
