"""Texts of statements."""

from __future__ import annotations

import pytest

from kandle.errors import QueryError
from kandle.ksql.statements import duration


def test_durations_are_written_in_the_largest_unit_that_divides_them() -> None:
    texts = {0: "0 SECONDS", 1_000: "1 MILLISECONDS", 90_000_000: "90 SECONDS", 86_400_000_000: "1 DAYS"}
    assert {value: duration(value) for value in texts} == texts
    with pytest.raises(QueryError, match=r"^1us: ksqlDB measures time in milliseconds"):
        duration(1)
