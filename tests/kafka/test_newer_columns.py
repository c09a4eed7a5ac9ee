"""Columns that a topic does not have, on a Kafka cluster."""

from __future__ import annotations

import uuid
from pathlib import Path

from tests.sets.newer_columns import check_that_newer_columns_are_null


def test_who_only_reads_gets_null_for_a_column_that_the_topic_does_not_have(bootstrap: str, tmp_path: Path) -> None:
    options = {"log": {"kind": "kafka"}, "kafka": {"bootstrap": bootstrap}, "copies": {"path": tmp_path / "copies"}}
    check_that_newer_columns_are_null(f"-{uuid.uuid4().hex[:8]}", options)
