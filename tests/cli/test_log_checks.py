import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from kandle.cli import log_checks
from kandle.cli.contexts import entities_in, plans_in
from kandle.cli.findings import Finding, fine, problem
from kandle.cli.log_checks import (
    clock_findings,
    folder_findings,
    group_findings,
    integrity_findings,
    newest_times,
    schedule_findings,
    topic_findings,
    topics_of_queries,
    wanted_topics,
)
from kandle.context.options import Options
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import GroupSpec, TopicPartition
from kandle.log.records import Records, Write
from kandle.model.entity import entity_model
from kandle.plan.topics import TopicColumn, entity_topic
from kandle.time.clock import ManualClock
from kandle.time.timeframe import MINUTE, to_instant
from tests.cli.declared import Meters, Shift
from tests.cli.logs import LATEST, NOON, READINGS, readings_log, write


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(to_instant(NOON))


@pytest.fixture
def log(tmp_path: Path, clock: ManualClock) -> EmbeddedLog:
    return readings_log(tmp_path, clock)


def said(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(found.level, found.message) for found in findings]


def test_a_finding_is_one_line_with_advice_or_plain_values() -> None:
    assert str(fine("clock", "it is noon")) == "ok       clock          it is noon"
    assert str(problem("topics", "two\nlines", "do this")) == "problem  topics         two lines; do this"
    assert fine("clock", "it is").to_dict() == {"check": "clock", "level": "ok", "message": "it is", "advice": ""}


def test_a_folder_must_be_there_with_a_log_in_it(tmp_path: Path, log: EmbeddedLog) -> None:
    ((level, what),) = said(folder_findings(tmp_path / "none"))
    assert (level, what) == ("problem", f"{tmp_path / 'none'} does not exist")
    (tmp_path / "file").touch()
    assert said(folder_findings(tmp_path / "file")) == [("problem", f"{tmp_path / 'file'} is a file, not a folder")]
    (tmp_path / "empty").mkdir()
    assert said(folder_findings(tmp_path / "empty")) == [("problem", f"{tmp_path / 'empty'} contains no log")]
    assert said(folder_findings(tmp_path))[0] == ("ok", f"{tmp_path} can be written")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "log.db")
    assert said(folder_findings(tmp_path))[0] == (
        "problem",
        f"{tmp_path / 'log.db'} cannot be written; readers can use it, writers cannot",
    )


@pytest.mark.parametrize(("little", "level"), [(0, "ok"), (1 << 60, "warning")])
def test_free_space_is_looked_at(
    tmp_path: Path, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch, little: int, level: str
) -> None:
    monkeypatch.setattr(log_checks, "LITTLE_SPACE", little)
    monkeypatch.setattr(log_checks, "TOO_LITTLE_SPACE", 0)
    assert said(folder_findings(tmp_path))[1][0] == level


def test_a_sound_file_is_counted_and_a_damaged_one_names_the_places(log: EmbeddedLog) -> None:
    assert said(integrity_findings(log, log.check())) == [("ok", "7 records in 2 topics are sound")]
    log.database.run("UPDATE batch SET blob = x'00' WHERE partition = 1")
    ((level, what),) = said(integrity_findings(log, log.check()))
    assert (level, what) == ("problem", "topic readings, partition 1, offsets 0 to 1: damaged bytes")
    for _ in range(9):
        log.append([write(0, ["m"], [1])])
    log.database.run("UPDATE batch SET blob = x'00'")
    assert [what for _, what in said(integrity_findings(log, log.check()))][-1] == "7 more batches are damaged"


def test_topics_are_compared_with_the_model(log: EmbeddedLog) -> None:
    assert said(topic_findings(log, [READINGS, LATEST])) == [("ok", "2 topics are as the model declares them")]
    missing = replace(LATEST, name="others")
    more = replace(LATEST, partitions=3, compacted=False)
    other = replace(READINGS, columns=(*READINGS.columns, TopicColumn("unit", "str", pl.String())))
    found = said(topic_findings(log, [missing, more, other]))
    assert found[0] == ("problem", "topic others does not exist")
    assert found[1] == ("warning", "topic latest: partitions is 1, 3 is declared; kandle does not change it")
    assert found[3][0] == "problem"
    assert found[3][1].startswith("topic readings has no column unit; a new column must be nullable")


def test_groups_are_shown_with_members_and_lag(log: EmbeddedLog) -> None:
    assert said(group_findings(log)) == [("ok", "no consumer groups")]
    consumer = log.consumer(GroupSpec("watchers", ("readings",), "one"))
    consumer.poll(0, 10)
    consumer.commit({TopicPartition("readings", 0): 2})
    assert said(group_findings(log)) == [("ok", "group watchers: members one, 2 partitions, lag 3 records")]
    consumer.close()
    assert said(group_findings(log)) == [("warning", "group watchers: no members, 2 partitions, lag 3 records")]


def test_a_clock_behind_the_newest_record_is_a_problem(tmp_path: Path, log: EmbeddedLog, clock: ManualClock) -> None:
    times = newest_times(log, log.topics())
    assert said(clock_findings(clock, times)) == [("ok", "the time is 2024-03-08T12:00:00.000Z, later than all records")]
    ((level, what),) = said(clock_findings(ManualClock(to_instant(NOON) - MINUTE), times | {"later": times["latest"] + MINUTE}))
    assert level == "problem"
    assert what == "the time is 2024-03-08T11:59:00.000Z, but a record of topic later was written 120.0 s later"


def test_the_topics_of_a_model_are_those_of_its_entities_and_queries(log: EmbeddedLog, tmp_path: Path) -> None:
    market = Meters(Options())
    entities, plans = entities_in(market), plans_in(market)
    names = [spec.name for spec in wanted_topics(entities, plans, topics_of_queries(log, plans))]
    assert names[:2] == ["readings", "shifts"]
    assert {"means_1m_live", "means_1m_final", "means_5m_live", "means_5m_final", "means_hb_1m"} <= set(names)
    assert "means" not in names
    with_nothing = EmbeddedLog(tmp_path / "other")
    specs = wanted_topics(entities, plans, topics_of_queries(with_nothing, plans))
    assert [spec.name for spec in specs] == ["readings", "shifts"]


def test_a_schedule_without_rows_is_a_problem_and_so_is_each_key_whose_rows_are_wrong(
    log: EmbeddedLog, clock: ManualClock
) -> None:
    plans = plans_in(Meters(Options()))
    nothing = [("problem", "topic shifts has no rows, so Mean has no sessions")]
    assert said(schedule_findings(log, plans, clock)) == nothing
    log.ensure(entity_topic(entity_model(Shift)))
    assert said(schedule_findings(log, plans, clock)) == nothing
    rows = pl.DataFrame(
        {"meter": ["m1", "m2"], "begins": [NOON, NOON], "ends": [NOON, NOON + timedelta(hours=1)]},
        schema=log.topic("shifts").schema,
    )
    log.append([Write("shifts", 0, Records(rows))])
    summary, (level, message) = said(schedule_findings(log, plans, clock))
    assert summary == ("ok", "2 rows in topic shifts for Mean")
    assert level == "problem"
    assert "of key ('m1',) closes before or when it opens (partition 0, offset 0 of topic shifts)" in message
