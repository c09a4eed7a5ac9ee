"""Columns that a topic does not have, on the embedded log."""

from __future__ import annotations

from pathlib import Path

from tests.sets.newer_columns import check_that_newer_columns_are_null


def test_who_only_reads_gets_null_for_a_column_that_the_topic_does_not_have(tmp_path: Path) -> None:
    check_that_newer_columns_are_null("", {"log": {"path": tmp_path / "log"}})
