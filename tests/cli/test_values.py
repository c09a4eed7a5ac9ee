import json
import logging
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from kandle.cli.output import Columns, cell, decimal_of, iso, json_line
from kandle.cli.run import JsonFormatter, TextFormatter
from kandle.cli.topics import size_text
from kandle.model.types import DecimalType
from kandle.time.timeframe import duration_text


def test_json_keeps_every_digit_and_says_times_in_iso() -> None:
    values = {
        "a": Decimal("1.500000000000000000000000000001"),
        "b": datetime(2024, 3, 8, 12, tzinfo=UTC),
        "c": date(2024, 3, 8),
        "d": b"\x00\xff",
        "e": [{"key": "k", "value": Decimal("1")}],
        "f": None,
        "g": float("nan"),
        "h": True,
    }
    assert json.loads(json_line(values)) == {
        "a": "1.500000000000000000000000000001",
        "b": "2024-03-08T12:00:00.000Z",
        "c": "2024-03-08",
        "d": "AP8=",
        "e": [{"key": "k", "value": "1"}],
        "f": None,
        "g": "nan",
        "h": True,
    }


def test_instants_are_in_utc_with_microseconds_only_where_there_are_some() -> None:
    east = timezone(timedelta(hours=2))
    assert iso(datetime(2024, 3, 8, 14, 0, 0, 250_000, east)) == "2024-03-08T12:00:00.250Z"
    assert iso(datetime(2024, 3, 8, 14, 0, 0, 1, east)) == "2024-03-08T12:00:00.000001Z"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert cell("\x1b[31mred\n") == "\\x1b[31mred\\n"
    assert cell("Zürich €") == "Zürich €"


def test_types_of_columns_are_read_from_their_words() -> None:
    assert decimal_of("Decimal(18, 6)") == DecimalType(18, 6)
    assert decimal_of("str") is None


def test_columns_stand_below_each_other_and_grow_when_they_must() -> None:
    table = Columns(("name", "n"), right=[1])
    assert table.lines([["a", "1"], ["bb", "22"]]) == ["name   n", "a      1", "bb    22"]
    assert table.lines([["longer", "3"]]) == ["longer   3"]
    assert Columns(("name",)).lines([]) == ["name"]


@pytest.mark.parametrize(
    ("duration", "text"), [(0, "0s"), (1, "1us"), (90_000_000, "1m30s"), (86_400_000_000, "1d"), (5_400_000_000, "1h30m")]
)
def test_durations_are_said_exactly(duration: int, text: str) -> None:
    assert duration_text(duration) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (1 << 60, "1048576.0 TiB")]
)
def test_sizes_are_easy_to_read(size: int, text: str) -> None:
    assert size_text(size) == text


def record(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("kandle.runtime").makeRecord("kandle.runtime", level, "f", 1, message, (), None, extra=extra)
    made.created = 1_709_899_200.25
    return made


def test_log_records_are_readable_lines_or_json() -> None:
    made = record("assigned", partitions=[0, 1], group="a b", instance="x")
    assert TextFormatter().format(made) == '2024-03-08T12:00:00.250Z info    assigned partitions=[0, 1] group="a b" instance=x'
    assert json.loads(JsonFormatter().format(made)) == {
        "time": "2024-03-08T12:00:00.250Z",
        "level": "info",
        "event": "assigned",
        "partitions": [0, 1],
        "group": "a b",
        "instance": "x",
    }


def test_an_error_in_a_log_record_is_one_line() -> None:
    made = record("failed", logging.ERROR)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert TextFormatter().format(made).endswith(' error   failed error="ValueError: two\\nlines"')
    assert json.loads(JsonFormatter().format(made))["error"] == "ValueError: two\nlines"
