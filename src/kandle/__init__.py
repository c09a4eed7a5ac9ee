"""kandle turns event streams into time bars: live, final exactly once, without gaps, in every timeframe from one declaration."""

from kandle import testing
from kandle.backfill.backfill import Backfill, backfill
from kandle.context.context import Context
from kandle.context.model import ModelBuilder
from kandle.context.options import Options
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
from kandle.runtime.counters import Health
from kandle.sets.messages import Message
from kandle.sets.reading import TimeBucket
from kandle.sets.sets import EventSet, TableSet
from kandle.time.timeframe import Period, Timeframe

__version__ = "0.1.0"

__all__ = [
    "Alias",
    "Backfill",
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
