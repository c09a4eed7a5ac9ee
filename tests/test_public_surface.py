"""What users may import from `kandle`: a list, so that a change of it is a decision."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import kandle
from kandle.query.functions import aggregates, conditions, numbers, results, texts, times

ROOT = Path(__file__).resolve().parent.parent

SURFACE = [
    "AccessError", "Alias", "Backfill", "BarSet", "Context", "DataError", "DatetimeFormat", "DeadLetter", "DeadLetterSet",
    "EventSet", "FencedError", "Gaps", "Header", "Health", "Ignore", "InputError", "KandleError", "Key", "KsqlError", "Late",
    "LettersDone", "LogError", "MaxLength", "Message", "MessageFailure", "MessageStream", "MissingExtraError", "ModelBuilder",
    "ModelError", "OnError", "Options", "OptionsError", "Period", "Precision", "QueryError", "SchemaError", "StateError",
    "StorageError", "TableChange", "TableChanges", "TableSet", "TimeBucket", "Timeframe", "TimeframeError", "Timestamp",
    "Transaction", "UnavailableError", "UnknownTopicError", "backfill", "explain", "functions", "plan", "stream", "table",
    "testing",
]  # fmt: skip


def test_the_public_surface_is_this_list() -> None:
    assert sorted(kandle.__all__) == SURFACE
    assert all(hasattr(kandle, name) for name in SURFACE)


def test_every_public_thing_says_what_it_is() -> None:
    assert [name for name in SURFACE if not (getattr(kandle, name).__doc__ or "").strip()] == []


def test_a_name_that_is_loaded_on_first_use_is_found_like_the_others() -> None:
    assert kandle.testing.context.__module__ == "kandle.testing.context"
    assert set(SURFACE) <= set(dir(kandle))
    names: dict[str, object] = {}
    exec("from kandle import *", names)
    assert set(SURFACE) <= set(names)


def test_functions_are_a_module_of_their_own() -> None:
    functions = importlib.import_module("kandle.functions")
    assert functions is kandle.functions
    public = {
        name
        for module in (aggregates, conditions, numbers, results, texts, times)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    }
    assert set(functions.__all__) == {name for name in public if not name.startswith("_")}


def test_what_users_see_of_a_context_and_its_sets_is_theirs() -> None:
    context = {"explain", "health", "ksql", "model", "on_message_error", "on_model_creating", "open", "options", "problem", "set"}
    context |= {"time_bucket", "transaction"}
    assert {name for name in dir(kandle.Context) if not name.startswith("_")} == context
    reading = {
        "access",
        "beginning",
        "can_read",
        "can_write",
        "dead_letters",
        "entity",
        "for_each",
        "for_each_async",
        "from_offsets",
        "limit",
        "manual_commit",
        "messages",
        "newest",
        "on_error",
        "policy",
        "since",
        "with_circuit_breaker",
        "with_retry",
    }
    reading |= {"to_list", "to_list_async", "topic", "count", "count_async"}
    single = {"get", "get_async"}
    writing = {"add", "add_async", "add_many", "add_many_async"}
    frames = {f"to_{kind}{form}" for kind in ("arrow", "pandas", "polars") for form in ("", "_async")}
    seen = {cls: {name for name in dir(cls) if not name.startswith("_")} for cls in SETS}
    assert seen == {
        kandle.EventSet: reading | writing,
        kandle.TableSet: reading | writing | single | {"changes", "remove", "remove_async"},
        kandle.TimeBucket: reading | frames | single | {"is_live", "live", "timeframe"},
        kandle.BarSet: {"access", "dead_letters", "entity", "timeframes"},
    }


SETS = (kandle.EventSet, kandle.TableSet, kandle.TimeBucket, kandle.BarSet)


def test_an_unknown_name_is_an_error_that_says_it() -> None:
    with pytest.raises(AttributeError, match="module 'kandle' has no attribute 'Stream'"):
        _ = kandle.Stream


NOT_LOADED = (
    "anyio._backends._asyncio", "anyio.from_thread", "asyncio", "confluent_kafka", "duckdb", "exchange_calendars", "fastavro",
    "h2", "httpx2", "msgspec", "multiprocessing", "numpy", "pandas", "pyarrow", "pydantic", "pydantic_settings", "rich",
    "rocksdict", "sqlite3", "tomllib", "typer", "kandle.engine", "kandle.ksql", "kandle.ksqldb", "kandle.log", "kandle.runtime",
    "kandle.serde", "kandle.store", "kandle.testing",
)  # fmt: skip
"""What takes time to load and is not needed to declare a context."""


@pytest.mark.parametrize("code", ["import kandle", "import examples.gold"])
def test_declaring_a_context_loads_nothing_that_only_an_open_one_needs(code: str) -> None:
    listing = f"import sys; {code}; print(*[name for name in {NOT_LOADED} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
