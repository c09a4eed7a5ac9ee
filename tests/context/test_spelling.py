"""Variables of the environment reach every topic and every entity, however it is called."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle
from kandle import Context, EventSet, Key, Options, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.context.topic_options import query_topic_settings
from kandle.errors import ModelError, OptionsError
from kandle.plan.plan import Plan
from kandle.plan.query_topics import query_topics
from kandle.time.timeframe import DAY


@kandle.stream("Market.Raw-Rides")
@dataclass(frozen=True)
class Ride:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    fare: int


@kandle.stream("Sums")
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
                .tumbling(lambda r: r.time, minutes=(1, 5))
                .group_by(lambda r: r.line)
                .select(lambda r, w: Sum(line=r.line, start=w.start, fare=f.sum(r.fare)))
            )
        )


def plan_of(rail: Context) -> Plan:
    plan = state_of(rail).plan_of(Sum)
    assert plan is not None
    return plan


def test_topics_with_capitals_dots_and_dashes_are_set_by_their_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_TOPICS__MARKET_RAW_RIDES__PARTITIONS", "3")
    monkeypatch.setenv("KANDLE_TOPICS__SUMS__PARTITIONS", "3")
    monkeypatch.setenv("KANDLE_TOPICS__SUMS_1M_FINAL__RETENTION", "9d")
    monkeypatch.setenv("KANDLE_TOPICS__SUMS_5M_FINAL__GRACE", "7s")
    monkeypatch.setenv("KANDLE_TOPICS__MARKET_RAW_RIDES_DLQ__RETENTION", "8d")
    rail = Rail.open()
    plan = plan_of(rail)
    assert (plan.query.source.partitions, plan.query.target.partitions) == (3, 3)
    specs = {topic.spec.name: topic.spec for topic in query_topics(plan, settings=query_topic_settings(rail.options)).all}
    assert specs["Sums_1m_final"].retention == 9 * DAY
    assert [bar.grace for bar in plan.emitted] == [0, 7_000_000]
    assert rail.options.topics["Market.Raw-Rides_dlq"].retention == "8d"


def test_the_name_may_also_be_written_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_TOPICS__Market.Raw-Rides__PARTITIONS", "3")
    monkeypatch.setenv("KANDLE_TOPICS", '{"Sums": {"partitions": 5}}')
    plan = plan_of(Rail.open())
    assert (plan.query.source.partitions, plan.query.target.partitions) == (3, 5)


def test_a_variable_counts_before_the_file_and_after_code(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("kandle.toml").write_text(
        '[topics.Sums]\npartitions = 2\nretention = "1d"\nconfigs = {"a" = 1, "b" = 1}\n[entities.Ride]\naccess = "read_only"\n'
    )
    monkeypatch.setenv("KANDLE_TOPICS__SUMS__PARTITIONS", "3")
    monkeypatch.setenv("KANDLE_TOPICS__SUMS__RETENTION", "2d")
    monkeypatch.setenv("KANDLE_TOPICS__SUMS__CONFIGS", '{"b": 2}')
    monkeypatch.setenv("KANDLE_ENTITIES__RIDE__ACCESS", "read_write")
    rail = Rail.open(topics={"Sums": {"retention": "3d"}})
    assert rail.rides.can_write
    section = rail.options.topics["Sums"]
    assert (section.partitions, section.retention, section.configs) == (3, "3d", {"a": 1, "b": 2})
    # The same options make another context of the class.
    assert Rail(rail.options).options.topics["Sums"] == section


def test_a_variable_of_an_unknown_topic_is_an_error_that_lists_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_TOPICS__MARKET_RIDES__PARTITIONS", "3")
    unknown = r"^environment, KANDLE_TOPICS__MARKET_RIDES__PARTITIONS: topics\.market_rides: Rail has no such topic; "
    with pytest.raises(ModelError, match=rf"{unknown}.*Market\.Raw-Rides.*Sums_1m_final"):
        Rail.open()


def test_what_is_wrong_with_a_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_TOPICS__MARKET_RAW_RIDES__GRACE", "3s")
    with pytest.raises(OptionsError, match=r"^environment, KANDLE_TOPICS__MARKET_RAW_RIDES__GRACE: .*grace: it is for bars"):
        Rail.open()
    monkeypatch.delenv("KANDLE_TOPICS__MARKET_RAW_RIDES__GRACE")
    monkeypatch.setenv("KANDLE_TOPICS__MARKET__RAW_RIDES__PARTITIONS", "3")
    with pytest.raises(OptionsError, match=r"two underscores end a name: write one underscore for '\.', '-' and '__' in it"):
        Options.load()


@kandle.stream("rides")
@dataclass(frozen=True)
class Lower:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]


@kandle.stream("Rides")
@dataclass(frozen=True)
class Upper:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]


@kandle.stream("ri.des")
@dataclass(frozen=True)
class Dotted:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]


@kandle.stream("ri_des")
@dataclass(frozen=True)
class Plain:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]


@kandle.stream("many__parts_")
@dataclass(frozen=True)
class Many:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]


class Both(Context):
    lower: EventSet[Lower]
    upper: EventSet[Upper]
    dotted: EventSet[Dotted]
    plain: EventSet[Plain]
    many: EventSet[Many]


def partitions(**values: Any) -> dict[str, int]:
    return {entity.topic: entity.partitions for entity in Both.open(**values)._model.entities.values() if entity.partitions != 1}


def test_topics_that_differ_in_case_only_are_set_with_their_exact_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_TOPICS__RIDES__PARTITIONS", "3")
    message = (
        r"^environment, KANDLE_TOPICS__RIDES__PARTITIONS: this may be the topic 'Rides' or 'rides'; .* KANDLE_TOPICS='\{\"Rides\""
    )
    with pytest.raises(OptionsError, match=message):
        Both.open()
    monkeypatch.delenv("KANDLE_TOPICS__RIDES__PARTITIONS")
    monkeypatch.setenv("KANDLE_TOPICS", '{"Rides": {"partitions": 3}}')
    assert partitions() == {"Rides": 3}


def test_an_underscore_is_first_of_all_an_underscore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_TOPICS__RI_DES__PARTITIONS", "3")
    monkeypatch.setenv("KANDLE_TOPICS__MANY_PARTS__PARTITIONS", "4")
    assert partitions() == {"ri_des": 3, "many__parts_": 4}


class OnlyLower(Context):
    rides: EventSet[Lower]


class OnlyUpper(Context):
    rides: EventSet[Upper]


def test_contexts_with_the_same_options_do_not_rename_the_topics_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_TOPICS__RIDES__PARTITIONS", "3")
    options = Options()
    contexts = (OnlyUpper(options), OnlyLower(options))
    assert [list(context.options.topics) for context in contexts] == [["Rides"], ["rides"]]
    assert list(options.topics) == ["rides"]
