"""Topics that do not fit the tasks, and state that is gone: refused by name, before there is a wrong bar."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kandle.cli.log_checks import missing_of_before, partition_findings, topics_of_queries
from kandle.errors import SchemaError, StateError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import TopicPartition
from kandle.runtime.preparing import prepare_topics
from kandle.time.clock import ManualClock
from tests.log.building import drop_topic
from tests.runtime.building import FINALS, Parts, Process, parts_of, read, t, tick

TWO = {"bars_1m_final", "bars_1m_live", "bars_changelog", "bars_hb_1m"}


def dropped(parts: Parts, topic: str) -> None:
    """Take a topic away behind kandle's back, as an administrator of a cluster can."""
    assert isinstance(parts.log, EmbeddedLog)
    drop_topic(parts.log, topic)


@pytest.mark.parametrize("topic", sorted(TWO - {"bars_hb_1m"}))
def test_a_topic_of_other_partitions_is_refused_by_name_and_nothing_is_made(topic: str) -> None:
    parts = parts_of(partitions=2)
    assert {spec.name for spec in parts.topics.specs} == TWO
    fresh = EmbeddedLog(None, ManualClock(t("14:30")))
    fresh.ensure(parts.log.topic("ticks"))
    fresh.ensure(replace(parts.log.topic(topic), partitions=3))
    with pytest.raises(SchemaError, match=rf"topic {topic} has 3 partitions, but ticks, .* has 2; .*give Bar another topic"):
        prepare_topics(fresh, [parts.plan])
    assert {spec.name for spec in fresh.topics()} == {"ticks", topic}


def test_doctor_calls_other_partitions_a_problem() -> None:
    parts = parts_of(partitions=2)
    fresh = EmbeddedLog(None, ManualClock(t("14:30")))
    fresh.ensure(parts.log.topic("ticks"))
    fresh.ensure(replace(parts.log.topic(FINALS), partitions=3))
    (finding,) = partition_findings(fresh, topics_of_queries(fresh, [parts.plan]))
    assert finding.level == "problem" and finding.message.startswith(f"topic {FINALS} has 3 partitions, but ticks, ")


def test_heartbeats_whose_topic_does_not_fit_go_into_another_one(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of(partitions=2)
    fresh = EmbeddedLog(None, ManualClock(t("14:30")))
    fresh.ensure(parts.log.topic("ticks"))
    fresh.ensure(replace(parts.log.topic("bars_hb_1m"), partitions=3))
    (topics,) = prepare_topics(fresh, [parts.plan])
    assert (topics.heartbeats, fresh.topic("bars_hb_1m_2").partitions) == ("bars_hb_1m_2", 2)
    said = "the heartbeats of Bar are in topic bars_hb_1m_2, since bars_hb_1m has 3 partitions, and Bar needs 2"
    assert f"{said}; option heartbeat.topic gives them another name" in caplog.messages
    (finding,) = [one for one in partition_findings(fresh, [topics]) if one.level != "ok"]
    assert (finding.level, finding.message) == ("warning", said)
    # All processes choose the same one, and the next start too.
    assert prepare_topics(fresh, [parts.plan]) == [topics]


def test_other_settings_that_differ_are_told_and_left(caplog: pytest.LogCaptureFixture) -> None:
    parts = parts_of()
    fresh = EmbeddedLog(None, ManualClock(t("14:30")))
    fresh.ensure(parts.log.topic("ticks"))
    fresh.ensure(replace(parts.log.topic("bars_1m_final"), retention=1_000_000, compacted=True))
    prepare_topics(fresh, [parts.plan])
    assert "topic bars_1m_final: retention is 1s, unlimited is declared; it stays as it is" in caplog.text
    assert "topic bars_1m_final: compacted is true, false is declared; it stays as it is" in caplog.text


def test_settings_that_differ_are_refused_where_that_is_asked_for() -> None:
    parts = parts_of()
    fresh = EmbeddedLog(None, ManualClock(t("14:30")))
    fresh.ensure(parts.log.topic("ticks"))
    fresh.ensure(replace(parts.log.topic("bars_1m_final"), retention=1_000_000, compacted=True))
    said = (
        "topic bars_1m_final: retention is 1s, unlimited is declared; topic bars_1m_final: compacted is true, false is declared; "
        'change the topic or its declaration, or let it be: log.differences = "warn"'
    )
    with pytest.raises(SchemaError, match=re.escape(said)):
        prepare_topics(fresh, [parts.plan], refuses=True)
    prepare_topics(parts.log, [parts.plan], refuses=True)


def test_a_source_that_was_given_more_partitions_is_copied_to_as_many_as_the_state_has() -> None:
    parts = parts_of()
    spec = parts.log.topic("ticks")
    dropped(parts, "ticks")
    parts.log.ensure(replace(spec, partitions=4))
    for _ in range(2):
        (topics,) = prepare_topics(parts.log, [parts.plan])
        assert (topics.partitions, topics.events) == (1, "bars_repartition")
        assert parts.log.topic("bars_repartition").partitions == 1


def test_state_that_is_gone_is_not_taken_for_none() -> None:
    parts = parts_of()
    parts.add(tick("14:30:10"))
    Process(parts).settle()
    parts.log.truncate(TopicPartition("bars_changelog", 0), parts.log.ends("bars_changelog")[0])
    with pytest.raises(StateError, match=r"topic bars_changelog, partition 0 is empty, .* ticks up to 1.*another topic"):
        Process(parts).worker.step()


def test_events_that_were_all_left_out_leave_state_all_the_same() -> None:
    parts = parts_of()
    parts.add(tick("14:30:10", None))
    Process(parts).settle()
    assert len(read(parts.log, "bars_changelog")) == 1
    Process(parts).settle()
    assert parts.counters.restored == 1


def test_a_changelog_that_was_made_again_under_a_worker_is_told_at_its_next_commit_and_at_a_restart() -> None:
    parts = parts_of()
    parts.add(tick("14:30:10"), tick("14:30:11"))
    process = Process(parts)
    for second in range(20, 23):
        parts.add(tick(f"14:30:{second}"))
        process.settle()
    spec = next(spec for spec in parts.topics.specs if spec.name == "bars_changelog")
    dropped(parts, "bars_changelog")
    parts.log.ensure(spec)
    parts.add(tick("14:30:30"))
    with pytest.raises(StateError, match="bars_changelog, partition 0 continues at offset 0, although it had more"):
        process.settle()
    with pytest.raises(StateError, match="bars_changelog, partition 0 begins with a change, without the snapshot before it"):
        Process(parts).worker.step()


DELETED = {
    "bars_1m_final": "final 1m bars so far",
    "bars_1m_live": "live 1m bars, until they change again",
    "bars_hb_1m": "heartbeats that were not read yet",
    "ticks": "events of Tick that were not read yet",
}


@pytest.mark.parametrize("topic", DELETED)
def test_a_topic_that_was_deleted_while_nothing_ran_is_told_when_it_is_made_anew(
    topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = parts_of()
    prepare_topics(parts.log, [parts.plan])
    parts.add(tick("14:30:10"))
    Process(parts).settle()
    prepare_topics(parts.log, [parts.plan])
    assert not caplog.messages
    dropped(parts, topic)
    what = f"topic {topic} is missing, although Bar was computed before; if it was deleted, this is lost: {DELETED[topic]}"
    topics = topics_of_queries(parts.log, [parts.plan])
    assert missing_of_before(parts.log, [parts.plan], topics) == {topic: what}
    prepare_topics(parts.log, [parts.plan])
    assert caplog.messages == [f"{what}; it is created again"]
    prepare_topics(parts.log, [parts.plan])
    assert len(caplog.messages) == 1
