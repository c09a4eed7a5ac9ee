"""Settings of single topics, those of queries included: they reach the topics, and what cannot be set is named."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle
import kandle.testing
from kandle import Context, EventSet, Key, OnError, Options, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.context.topic_options import query_topic_settings
from kandle.errors import AccessError, ModelError, OptionsError, PlanError, StateError, UnknownTopicError
from kandle.log.letters import letters_of_topic
from kandle.model.types import DecimalType
from kandle.plan.query_topics import query_topics
from kandle.plan.topics import TopicSpec, broker_config
from kandle.time.timeframe import DAY, HOUR, SECOND
from tests.sets.consumed import Job, Work


@kandle.stream("rides", partitions=2)
@dataclass(frozen=True)
class Ride:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    fare: int


@kandle.stream("sums", retention="30d")
@dataclass(frozen=True)
class Sum:
    line: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    fare: int


class Rail(Context):
    rides: EventSet[Ride]
    sums: kandle.BarSet[Sum]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Sum).to_query(
            lambda q: (
                q.from_(Ride)
                .tumbling(lambda r: r.time, minutes=(1, 5), grace="1s")
                .group_by(lambda r: r.line)
                .select(lambda r, w: Sum(line=r.line, start=w.start, fare=f.sum(r.fare)))
            )
        )


def specs_of(rail: Context) -> dict[str, TopicSpec]:
    """Return all topics of the query of a context as they should be."""
    plan = state_of(rail).plan_of(Sum)
    assert plan is not None
    return {topic.spec.name: topic.spec for topic in query_topics(plan, settings=query_topic_settings(rail.options)).all}


def test_every_topic_of_a_query_has_settings_of_its_own() -> None:
    rail = Rail.open(
        topics={
            "rides": {"configs": {"max.message.bytes": 2_000_000}},
            "sums": {"partitions": 2, "configs": {"min.insync.replicas": 2}},
            "sums_1m_final": {"cleanup": "compact", "replication": 3, "configs": {"min.insync.replicas": 1}},
            "sums_5m_final": {"retention": "90d", "retention_bytes": 10**9, "configs": {"segment.bytes": "1048576"}},
            "sums_1m_live": {"retention": "forever"},
            "sums_hb_1m": {"retention": "1d"},
            "sums_changelog": {"configs": {"compression.type": "zstd"}},
            "sums_repartition": {"retention": "2d"},
            "sums_dlq": {"configs": {"retention.ms": 86_400_000, "unclean.leader.election.enable": False}},
        }
    )
    specs = specs_of(rail)
    assert broker_config(specs["sums_1m_final"]) == {
        "cleanup.policy": "compact",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "min.insync.replicas": "1",
    }
    assert specs["sums_1m_final"].replication == 3
    final = specs["sums_5m_final"]
    assert (final.retention, final.retention_bytes, dict(final.configs)) == (90 * DAY, 10**9, {"segment.bytes": "1048576"})
    assert specs["sums_1m_live"].retention is None
    assert specs["sums_5m_live"].retention == HOUR
    assert dict(specs["sums_5m_live"].configs) == {"min.insync.replicas": "2"}
    assert broker_config(specs["sums_hb_1m"])["retention.ms"] == "86400000"
    assert dict(specs["sums_changelog"].configs) == {"compression.type": "zstd"}
    assert specs["sums_dlq"].retention == DAY
    assert dict(specs["sums_dlq"].configs) == {"unclean.leader.election.enable": "false"}
    assert dict(specs["rides"].configs) == {"max.message.bytes": "2000000"}


def test_the_log_has_the_topics_as_they_are_set() -> None:
    topics: Any = {"sums_1m_final": {"cleanup": "compact"}, "sums_5m_final": {"retention": "9d"}}
    topics["rides_dlq"] = {"retention": "1d"}
    with Rail.open(topics=topics) as rail:
        log = state_of(rail).log
        assert (log.topic("rides_dlq").retention, log.topic("rides_dlq").partitions) == (DAY, 2)
        assert (log.topic("sums_1m_final").compacted, log.topic("sums_5m_final").retention) == (True, 9 * DAY)
        assert log.topic("sums_1m_final").retention is None


class RailInTests(kandle.testing.TestContext, Rail):
    """With a clock that is moved by hand."""


def fail(bar: Sum) -> None:
    raise ValueError(f"no {bar.line}")


def test_dead_letters_of_bars_have_the_settings_of_their_topics() -> None:
    topics: Any = {"sums_1m_final_dlq": {"retention": "1d"}, "sums_5m_live_dlq": {"retention": "2d"}, "sums_1m_live_dlq": {}}
    with kandle.testing.context(RailInTests, "2024-03-08T12:00Z", topics=topics) as rail:
        rail.rides.add(Ride("u1", datetime(2024, 3, 8, 12, 0, 1, tzinfo=UTC), 2))
        rail.clock.advance("2m")
        log = state_of(rail).log
        for bars, retention in ((rail.sums("1m"), DAY), (rail.sums("5m").live, 2 * DAY)):
            assert bars.on_error(OnError.DEAD_LETTER).for_each(fail, limit=1) == 0
            assert [letter.error for letter in bars.dead_letters()] == ["no u1"]
            spec = log.topic(f"{bars.topic}_dlq")
            assert (spec.retention, spec.partitions) == (retention, 2)


def test_dead_letters_of_readers_are_missed_with_the_first_one_where_others_create_topics(tmp_path: Path) -> None:
    with Work.open(log={"path": tmp_path}) as work:
        work.jobs.add(Job("a", 1))
    topics: Any = {"jobs_dlq": {"retention": "1d"}}
    for options in ({"log": {"create": False}}, {"topics": {"jobs_dlq": {"create": False}}}):
        merged: Any = {"topics": topics, **options, "log": {"path": tmp_path, **options.get("log", {})}}
        with Work.open(**merged) as work:
            careful = work.jobs.on_error(OnError.DEAD_LETTER)
            with pytest.raises(UnknownTopicError, match=r"1 topic is missing.* jobs_dlq \(2 partitions.*create = true"):
                careful.for_each(fail_job, limit=1)
            log = state_of(work).log
            assert "jobs_dlq" not in {spec.name for spec in log.topics()}
            assert work.jobs.dead_letters().to_list() == []
    with Work.open(log={"path": tmp_path, "create": False}) as work:
        log = state_of(work).log
        log.ensure(letters_of_topic(log.topic("jobs")))
        assert work.jobs.on_error(OnError.DEAD_LETTER).for_each(fail_job, limit=1) == 0
        assert [letter.error for letter in work.jobs.dead_letters()] == ["no job 1"]


def fail_job(job: Job) -> None:
    raise ValueError(f"no job {job.number}")


WRONG = [
    (
        "[topics.sums_1m_finals]\nretention = '1d'\n",
        ModelError,
        r"toml, line 1: topics\.sums_1m_finals: Rail has no such topic; did",
    ),
    (
        "[topics.hb_1m]\nretention = '1d'\n",
        ModelError,
        r"did you mean 'sums_hb_1m'\? Choose from: .*sums_changelog.*sums_5m_live",
    ),
    (
        "[topics.sums_1m_final]\npartitions = 3\n",
        OptionsError,
        r"partitions = 3: the topics of Sum belong together .* have 2, as .* rides",
    ),
    ("[topics.sums_changelog]\nretention = '1d'\n", OptionsError, "retention and cleanup are not for the state of Sum"),
    ("[topics.sums_changelog]\ncleanup = 'compact'\n", OptionsError, "retention and cleanup are not for the state of Sum"),
    (
        "[topics.sums_1m_final]\nkey_format = 'JSON'\n",
        OptionsError,
        r"topics\.sums_1m_final: key_format: it is for topics of entities",
    ),
    (
        "[topics.sums]\ncleanup = 'compact'\n",
        OptionsError,
        r"cleanup: it is for single topics of bars, such as sums_1m_final, sums",
    ),
    (
        "[topics.sums_1m_final.producer]\nacks = 1\n",
        OptionsError,
        "producer: queries write in transactions, with .* kafka.producer",
    ),
    ("[topics.rides]\ngrace = '1s'\n", OptionsError, r"topics\.rides: grace: it is for bars and their finals only"),
    ("[topics.sums]\ngrace = {'2m' = '1s'}\n", OptionsError, r"grace: Sum has no bars of 2m; .*choose from: 1m, 5m"),
    ("[topics.sums_5m_final]\ngrace = '10ms'\n", PlanError, r"the grace of 5m \(10ms\) is below that of 1m \(1s\)"),
    ("[topics.rides]\ncleanup = 'compact,delete'\n", OptionsError, 'cleanup = "compact,delete" needs a retention'),
    ("[topics.rides]\ncleanup = 'compact'\nretention = '1d'\n", OptionsError, "no record is removed because of its age"),
    (
        "[topics.rides]\nretention = '1d'\nconfigs = {'retention.ms' = 5}\n",
        OptionsError,
        r'retention and configs\."retention\.ms" say',
    ),
    (
        "[topics.rides]\nconfigs = {'retention.ms' = 'a week'}\n",
        OptionsError,
        r"topics\.rides: configs\.\"retention\.ms\" = 'a week': give a whole number, or -1 for no limit",
    ),
    (
        "[topics.rides]\nconfigs = {'cleanup.policy' = 'forget'}\n",
        OptionsError,
        r"topics\.rides: cleanup\.policy = 'forget'; choose one",
    ),
    (
        "[topics.sums_hb_1m]\nconfigs = {'message.timestamp.type' = 'CreateTime'}\n",
        OptionsError,
        "needs message.timestamp.type=Log",
    ),
    ("[bars]\nfinal_topic = '{bars}{timeframe}'\n", OptionsError, r"line 2: .*put '_', '-' or '\.' between \{bars\} and"),
    ("[bars]\nfinal_topic = '{bars}_final'\n", OptionsError, r"it needs the fields \{bars\} and \{timeframe\} once each"),
    ("[bars]\nlive_topic = '{bars}_{timeframe}_final'\n", OptionsError, "live_topic and final_topic are the same"),
    ("[bars]\nlive_topic = '{bars}_hb_{timeframe}'\n", ModelError, "the topic 'sums_hb_1m' would have both"),
    ("[entities.Rides]\naccess = 'read_only'\n", ModelError, r"entities\.Rides: Rail has no such entity; did you mean 'Ride'"),
    (
        "access = 'read_only'\n[entities.Ride]\naccess = 'write_only'\n",
        OptionsError,
        "context is read_only and Ride is write_only",
    ),
    (
        "[engine]\nkind = 'ksqldb'\n[topics.sums_1m_live]\nretention = '1d'\n",
        OptionsError,
        "sums_1m_live: retention: ksqlDB creates this topic; set it there",
    ),
    ("[fields]\ndecimal_precision = 18\n", OptionsError, "decimal_precision and decimal_scale belong together"),
]


@pytest.mark.parametrize(("text", "kind", "message"), WRONG)
def test_a_setting_that_is_not_possible_is_named_with_the_way_out(text: str, kind: type[Exception], message: str) -> None:
    Path("kandle.toml").write_text(text)
    with pytest.raises(kind, match=message):
        Rail.open()


def test_topics_that_others_create_are_missed_all_at_once_with_their_settings() -> None:
    topics: Any = {name: {"create": False} for name in ("rides", "sums_1m_final", "sums_dlq")}
    with (
        pytest.raises(UnknownTopicError, match=r"1 topic is missing, .* not to create: rides \(2 partitions, cleanup"),
        Rail.open(topics=topics),
    ):
        pass
    more = r"2 topics are missing.*: sums_1m_final \(2.*; sums_dlq \(2.*create = true"
    with pytest.raises(UnknownTopicError, match=more), Rail.open(topics=topics | {"rides": {"create": True}}):
        pass
    with Rail.open(topics={"sums_1m_final": {"retention": "forever"}}) as rail:
        state_of(rail).log.ensure(specs_of(rail)["sums_dlq"])
        assert "sums_5m_final" in {spec.name for spec in state_of(rail).log.topics()}
    with Rail.open(topics=topics, log={"create": False}) as rail:
        rail.rides.add(Ride("u1", datetime.now(UTC), 2))


def test_without_the_right_to_create_nothing_is_created() -> None:
    with (
        pytest.raises(UnknownTopicError, match=r"_kandle_queries \(1 partition, .*log\.create = true"),
        Rail.open(log={"create": False}),
    ):
        pass
    with pytest.raises(UnknownTopicError, match="rides"), Rail.open(log={"create": False}, runtime={"enabled": False}):
        pass


def test_topics_of_bars_are_called_as_the_template_says() -> None:
    names = {"live_topic": "live.{bars}.{timeframe}", "final_topic": "{bars}-{timeframe}"}
    with kandle.testing.context(Rail, "2024-03-08T12:00Z", bars=names) as rail:
        rail.rides.add(Ride("u1", datetime(2024, 3, 8, 12, 0, 5, tzinfo=UTC), 2))
        rail.clock.advance("61s")  # type: ignore[attr-defined]
        assert [bar.fare for bar in rail.sums("1m").to_list()] == [2]
        topics = {spec.name for spec in state_of(rail).log.topics()}
        assert {"live.sums.1m", "live.sums.5m", "sums-1m", "sums-5m", "sums_hb_1m"} <= topics
        assert rail.sums("5m").live.topic == "live.sums.5m"


def test_the_names_of_topics_are_a_part_of_the_declaration(tmp_path: Path) -> None:
    with kandle.testing.context(Rail, "2024-03-08T12:00Z", log={"path": tmp_path}):
        pass
    other: Any = {"final_topic": "{bars}_{timeframe}_done"}
    named = r"topic of final: \{bars\}_\{timeframe\}_final there, \{bars\}_\{timeframe\}_done here"
    again = kandle.testing.context(Rail, "2024-03-08T12:00Z", log={"path": tmp_path}, bars=other)
    with pytest.raises(StateError, match=named), again:
        pass


@pytest.mark.parametrize(
    ("topics", "graces"),
    [
        ({"sums": {"grace": "3s"}}, [3, 3]),
        ({"sums": {"grace": {"5m": "7s"}}}, [1, 7]),
        ({"sums": {"grace": {"60s": "2s"}}, "sums_5m_final": {"grace": "9s"}}, [2, 9]),
    ],
)
def test_the_grace_of_a_timeframe_can_be_set(topics: Any, graces: list[int]) -> None:
    plan = state_of(Rail.open(topics=topics)).plan_of(Sum)
    assert plan is not None
    assert [bar.grace // SECOND for bar in plan.emitted] == graces


def test_settings_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("kandle.toml").write_text("[topics.sums_1m_final]\nreplication = 3\n")
    monkeypatch.setenv("KANDLE_TOPICS__SUMS_1M_FINAL__RETENTION", "9d")
    monkeypatch.setenv("KANDLE_TOPICS__SUMS_1M_FINAL__CONFIGS", '{"segment.bytes": 1048576}')
    monkeypatch.setenv("KANDLE_BARS__LIVE_TOPIC", "{bars}_{timeframe}_open")
    monkeypatch.setenv("KANDLE_ENTITIES__RIDE__ACCESS", "read_only")
    rail = Rail.open()
    assert not rail.rides.can_write
    specs = specs_of(rail)
    final = specs["sums_1m_final"]
    assert (final.replication, final.retention, final.configs) == (3, 9 * DAY, (("segment.bytes", "1048576"),))
    assert "sums_5m_open" in specs


def test_what_the_embedded_log_does_not_follow_is_said(caplog: pytest.LogCaptureFixture) -> None:
    topics: Any = {
        "sums_1m_final": {"replication": 3, "retention": "1d", "configs": {"segment.bytes": 5}, "consumer": {"a": "b"}}
    }
    with caplog.at_level(logging.WARNING), Rail.open(topics=topics):
        pass
    assert "no use for replication, consumer, configs.segment.bytes of topic sums_1m_final: they are for log.kind" in caplog.text


def test_access_of_an_entity_limits_its_set_alone() -> None:
    with Rail.open(entities={"Ride": {"access": "read_only"}}) as rail:
        with pytest.raises(AccessError, match=r"Ride cannot be written: its access is 'read_only' \(entities\.Ride\.access"):
            rail.rides.add(Ride("u1", datetime.now(UTC), 2))
        assert rail.rides.to_list() == []
    with Rail.open(entities={"Ride": {"access": "write_only"}}) as rail:
        rail.rides.add(Ride("u1", datetime.now(UTC), 2))
        with pytest.raises(AccessError, match="Ride cannot be read: its access is 'write_only'"):
            rail.rides.to_list()
        assert rail.sums("1m").can_read


class Shown(Context):
    rides: EventSet[Ride]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Ride).access("read_only")


def test_access_of_an_entity_can_be_set_in_code_and_whoever_only_reads_creates_nothing() -> None:
    with Shown.open() as shown:
        with pytest.raises(AccessError, match="Ride cannot be written: its access is 'read_only'"):
            shown.rides.add(Ride("u1", datetime.now(UTC), 2))
        assert [spec.name for spec in state_of(shown).log.topics()] == []
    with pytest.raises(AccessError, match="Ride cannot be read: the context was opened with access='write_only'"):
        Rail(Options(access="write_only")).rides._check_read()


@kandle.stream("prices")
@dataclass(frozen=True)
class Price:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    value: Decimal


@kandle.stream("highs")
@dataclass(frozen=True)
class High:
    line: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    value: Decimal


class Prices(Context):
    prices: EventSet[Price]
    highs: kandle.BarSet[High]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(High).to_query(
            lambda q: (
                q.from_(Price)
                .tumbling(lambda p: p.time, minutes=1)
                .group_by(lambda p: p.line)
                .select(lambda p, w: High(line=p.line, start=w.start, value=f.max(p.value)))
            )
        )


def test_decimals_have_the_digits_of_the_options_where_they_name_none() -> None:
    with pytest.raises(ModelError, match=r"Price\.value is a Decimal without precision: .*fields\.decimal_precision"):
        Prices.open()
    digits: Any = {"decimal_precision": 12, "decimal_scale": 4}
    with kandle.testing.context(Prices, "2024-03-08T12:00Z", fields=digits) as prices:
        assert prices.prices.entity.field("value").type == DecimalType(12, 4)
        prices.prices.add(Price("u1", datetime(2024, 3, 8, 12, 0, 5, tzinfo=UTC), Decimal("1.2345")))
        prices.clock.advance("61s")  # type: ignore[attr-defined]
        assert [bar.value for bar in prices.highs("1m").to_list()] == [Decimal("1.2345")]
