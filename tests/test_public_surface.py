"""What users may import from `kandle`: a list, so that a change of it is a decision."""

import subprocess
import sys

import kandle

SURFACE = [
    "Alias", "Backfill", "Context", "DatetimeFormat", "EventSet", "Gaps", "Header", "Health", "Ignore", "KandleError", "Key",
    "Late", "MaxLength", "Message", "ModelBuilder", "Options", "Period", "Precision", "TableSet", "TimeBucket", "Timeframe",
    "Timestamp", "backfill", "explain", "functions", "plan", "stream", "table", "testing",
]  # fmt: skip


def test_the_public_surface_is_this_list() -> None:
    assert sorted(kandle.__all__) == SURFACE
    assert all(hasattr(kandle, name) for name in SURFACE)


def test_every_public_thing_says_what_it_is() -> None:
    assert [name for name in SURFACE if not (getattr(kandle, name).__doc__ or "").strip()] == []


def test_importing_kandle_does_not_import_what_only_extras_need() -> None:
    extras = "('exchange_calendars', 'pandas', 'pyarrow', 'duckdb')"
    code = f"import sys, kandle; print([name for name in {extras} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
