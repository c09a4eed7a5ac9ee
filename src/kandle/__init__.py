"""kandle turns event streams into time bars: live, final exactly once, without gaps, in every timeframe from one declaration."""

# First of all, so that Ctrl-C has no traceback while a command loads the rest.
from kandle import interrupts  # noqa: F401 - for what it does when it is imported

# isort: split

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kandle import functions
from kandle.backfill.backfill import Backfill, backfill
from kandle.context.context import Context
from kandle.context.model import ModelBuilder
from kandle.errors import (
    AccessError,
    DataError,
    FencedError,
    InputError,
    KandleError,
    KsqlError,
    LogError,
    MissingExtraError,
    ModelError,
    OptionsError,
    QueryError,
    SchemaError,
    StateError,
    StorageError,
    TimeframeError,
    UnavailableError,
    UnknownTopicError,
)
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
from kandle.plan.plan import plan
from kandle.query.query import Gaps, Late
from kandle.sets.bars import BarSet, TimeBucket
from kandle.sets.policies import MessageFailure, OnError
from kandle.sets.sets import EventSet, TableSet
from kandle.time.timeframe import Period, Timeframe

if TYPE_CHECKING:
    from kandle import testing
    from kandle.context.options import Options
    from kandle.plan.explain import explain
    from kandle.runtime.counters import Health
    from kandle.sets.changes import TableChange, TableChanges
    from kandle.sets.dead_letters import DeadLetterSet
    from kandle.sets.letters import DeadLetter
    from kandle.sets.message import Message
    from kandle.sets.messages import MessageStream
    from kandle.sets.replaying import LettersDone
    from kandle.sets.transaction import Transaction

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "Alias",
    "Backfill",
    "BarSet",
    "Context",
    "DataError",
    "DatetimeFormat",
    "DeadLetter",
    "DeadLetterSet",
    "EventSet",
    "FencedError",
    "Gaps",
    "Header",
    "Health",
    "Ignore",
    "InputError",
    "KandleError",
    "Key",
    "KsqlError",
    "Late",
    "LettersDone",
    "LogError",
    "MaxLength",
    "Message",
    "MessageFailure",
    "MessageStream",
    "MissingExtraError",
    "ModelBuilder",
    "ModelError",
    "OnError",
    "Options",
    "OptionsError",
    "Period",
    "Precision",
    "QueryError",
    "SchemaError",
    "StateError",
    "StorageError",
    "TableChange",
    "TableChanges",
    "TableSet",
    "TimeBucket",
    "Timeframe",
    "TimeframeError",
    "Timestamp",
    "Transaction",
    "UnavailableError",
    "UnknownTopicError",
    "backfill",
    "explain",
    "functions",
    "plan",
    "stream",
    "table",
    "testing",
]

_LAZY = {
    "DeadLetter": "kandle.sets.letters",
    "DeadLetterSet": "kandle.sets.dead_letters",
    "Health": "kandle.runtime.counters",
    "LettersDone": "kandle.sets.replaying",
    "Message": "kandle.sets.message",
    "MessageStream": "kandle.sets.messages",
    "Options": "kandle.context.options",
    "TableChange": "kandle.sets.changes",
    "TableChanges": "kandle.sets.changes",
    "Transaction": "kandle.sets.transaction",
    "explain": "kandle.plan.explain",
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
