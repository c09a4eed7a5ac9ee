"""Role "live" with a stand-in that plays ksqlDB on a real Kafka: the finals are those of the embedded engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from confluent_kafka.admin import AdminClient

import kandle
from kandle import Context
from kandle.errors import KsqlError, KsqlUnavailableError, OptionsError, PlanError, SchemaError, StateError
from kandle.ksqldb.progress import QueryBarrier
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.model.columns import to_logical
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.topics import DECLARATIONS, entity_topic
from kandle.time.timeframe import SECOND
from tests import waiting
from tests.ksqldb.standin.declarations import Bar, Hours, Tick, market, ticks
from tests.ksqldb.standin.running import Faults
from tests.ksqldb.standin.server import StandIn, standing_in
from tests.serde.serving import Server
from tools.kafka.cluster import Cluster

SECONDS = 6
KEYS = ["venue", "code", "start"]


@dataclass
class Play:
    """A context on a stand-in, with ticks of the last seconds."""

    app: type[Context]
    cluster: Cluster
    server: StandIn
    begin: datetime
    given: list[Tick]

    def options(self, **values: Any) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "log": {"kind": "kafka"},
            "kafka": {"bootstrap": self.cluster.bootstrap},
            "engine": {"kind": "ksqldb"},
            "ksqldb": {"url": self.server.url, "watch": "200ms"},
            "topics": self.app.topics_of_tests,  # type: ignore[attr-defined]
        }
        if self.server.registry:
            settings["schema_registry"] = {"url": self.server.registry}
        return settings | values

    def opened(self, **values: Any) -> Context:
        return self.app.open(**self.options(**values))

    def feed(self) -> None:
        with self.opened(access="write_only") as context:
            context.ticks.add_many(self.given)  # type: ignore[attr-defined]

    @property
    def end(self) -> datetime:
        return self.begin + timedelta(seconds=SECONDS)

    def finals(self, context: Context) -> dict[str, pl.DataFrame]:
        """The finals of the ticks' time, once all buckets of it and the one after it are closed."""
        wait_until(lambda: self._is_closed(context), context)
        return {name: self._bars(context, name) for name in ("1s", "5s")}

    def _bars(self, context: Context, name: str) -> pl.DataFrame:
        return context.time_bucket(Bar, name).to_polars(end=self.end).sort(KEYS)

    def _is_closed(self, context: Context) -> bool:
        counters = context.health().queries[0].counters.timeframes
        ends = [counters[name].newest for name in ("1s", "5s")] if counters else [None]
        return all(each is not None and each >= (self.end.timestamp() + 5) * SECOND for each in ends)

    def expected(self, **schedule: Any) -> dict[str, pl.DataFrame]:
        """What the embedded engine makes of the same ticks."""
        source = entity_model(Tick)
        frame = to_logical(source, mapping(source).to_frame(self.given))
        found = kandle.backfill(self.app, Bar, ticks=frame, until=self.end, **schedule)
        return {name: found[name].filter(pl.col("start") < self.end).sort(KEYS) for name in ("1s", "5s")}


def wait_until(done: Callable[[], object], context: Context) -> None:
    """Look again and again until it is done; a worker must not fail meanwhile."""

    def check() -> None:
        if context.problem is not None:
            raise AssertionError("the worker has failed") from context.problem

    waiting.wait_until(done, seen=context.health, check=check, pause=0.05)


def play(cluster: Cluster, server: StandIn, **declared: Any) -> Play:
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=SECONDS)
    # Buckets of five seconds begin with the ticks.
    begin -= timedelta(seconds=begin.second % 5)
    found = Play(market(**declared), cluster, server, begin, ticks(begin, SECONDS))
    found.feed()
    return found


def same(ours: dict[str, pl.DataFrame], theirs: dict[str, pl.DataFrame]) -> None:
    for name, bars in theirs.items():
        assert ours[name].rows() == bars.rows(), name
    assert theirs["1s"].height > 12


def test_finals_are_those_of_the_embedded_engine_though_partitions_lag_and_the_query_dies(cluster: Cluster) -> None:
    faults = Faults(held=frozenset({0}), dies_after=0.7)
    with standing_in(cluster.bootstrap, faults=faults) as server:
        found = play(cluster, server)
        with found.opened() as context:
            (query,) = server.queries.values()
            wait_until(lambda: context.health().queries[0].counters.events > 0 and query.deaths > 0, context)
            assert context.health().queries[0].counters.heartbeats_sent == 0
            faults.released.set()
            wait_until(lambda: query.deaths > 2, context)
            faults.dies_after = None
            ours = found.finals(context)
            assert context.health().queries[0].counters.late == 0
        same(ours, found.expected())


def test_without_the_barrier_finals_are_made_of_what_is_still_under_way(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QueryBarrier, "is_reached", lambda self: True)
    faults = Faults(held=frozenset({0, 1}))
    with standing_in(cluster.bootstrap, faults=faults) as server:
        found = play(cluster, server)
        with found.opened() as context:
            wait_until(lambda: context.health().queries[0].counters.heartbeats_applied > 0, context)
            faults.released.set()
            wait_until(lambda: context.health().queries[0].counters.late > 0, context)
            ours = {name: found._bars(context, name) for name in ("1s", "5s")}
        with pytest.raises(AssertionError):
            same(ours, found.expected())


def test_avro_with_a_schema_registry_and_live_bars_of_both_makers(cluster: Cluster, registry: Server) -> None:
    with standing_in(cluster.bootstrap, registry.url) as server:
        found = play(cluster, server, avro=True)
        with found.opened() as context:
            same(found.finals(context), found.expected())
            live = {name: context.time_bucket(Bar, name).to_list(include_live=True, end=found.end) for name in ("1s", "5s")}
        assert all(len(bars) for bars in live.values())


def test_schemas_of_events_are_registered_before_ksqldb_would_register_some_of_its_own(
    cluster: Cluster, registry: Server
) -> None:
    with standing_in(cluster.bootstrap, registry.url) as server:
        found = Play(market(avro=True), cluster, server, datetime.now(UTC), [])
        known: list[str] = []
        server.refuses = lambda body: known.extend(registry.asked) if "CREATE STREAM" in body else None
        with found.opened():
            (topic, *_) = found.app.topics_of_tests  # type: ignore[attr-defined]
    assert {f"POST /subjects/{topic}-{side}/versions" for side in ("key", "value")} <= set(known)


def hours(begin: datetime) -> list[Hours]:
    """A session with a break in the middle of a bucket, and the day after."""
    breaks = begin + timedelta(seconds=2, milliseconds=500), begin + timedelta(seconds=4)
    bounds = [
        (begin, breaks[0]),
        (breaks[1], begin + timedelta(minutes=5)),
        (begin + timedelta(days=1), begin + timedelta(days=2)),
    ]
    rows = [(code, number, *each) for code in "ABC" for number, each in enumerate(bounds)]
    return [Hours("x|%", code, date(2024, 1, number + 1), opens, closes) for code, number, opens, closes in rows]


def test_only_ticks_in_sessions_count_and_the_sessions_may_come_after_the_start(cluster: Cluster) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server, scheduled=True)
        sessions = hours(found.begin)
        with found.opened() as context:
            assert context.health().state.value == "waiting for schedule"
            assert "waits for rows of its schedule" in str(context.health().queries[0].problem)
            assert not server.queries
            context.hours.add_many(sessions)  # type: ignore[attr-defined]
            ours = found.finals(context)
        entity = entity_model(Hours)
        same(ours, found.expected(schedule=to_logical(entity, mapping(entity).to_frame(sessions))))


def test_a_query_that_fails_is_made_anew_and_finals_stay_right(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server)
        with found.opened() as context, caplog.at_level(logging.WARNING, "kandle"):
            wait_until(lambda: bool(server.queries), context)
            (name,) = server.queries
            before = server.id(name)
            server.queries[name].fail("Numeric field overflow")
            wait_until(lambda: server.id(name) != before, context)
            ours = found.finals(context)
            assert context.health().queries[0].counters.recreated == 1
        same(ours, found.expected())
    assert f"query {before}, which writes {name}, is in state ERROR: Numeric field overflow" in caplog.text
    assert "creating them again" in caplog.text


def test_a_query_that_fails_ends_the_worker_where_that_is_asked_for(cluster: Cluster) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server)
        options = {"ksqldb": {"url": server.url, "watch": "200ms", "on_failure": "stop"}}
        with found.opened(**options) as context:
            (running,) = server.queries.values()
            running.fail("Numeric field overflow")
            problem = waiting.wait_for(lambda: context.problem, expected="the problem")
            assert "Numeric field overflow" in str(problem)
        with pytest.raises(KsqlError, match=r"is in state ERROR: Numeric field overflow.*script --drop"):
            found.opened(**options).__enter__()


def test_what_is_there_is_used_and_what_differs_is_refused_by_name(cluster: Cluster) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server)
        for _ in range(2):
            with found.opened():
                pass
        assert sum("CREATE TABLE" in text for text in server.asked) == 1
        changed = market(least=1)
        topics = found.app.topics_of_tests  # type: ignore[attr-defined]
        changed.on_model_creating = _renamed(changed, found.app)  # type: ignore[method-assign]
        changed.topics_of_tests = topics  # type: ignore[attr-defined]
        other = Play(changed, cluster, server, found.begin, found.given)
        with pytest.raises(StateError, match=r"where: event.size > 0 there, event.size > 1 here.*another topic; its bars"):
            other.opened().__enter__()
        # The server compares as well, where declarations are not known.
        admin = AdminClient(cluster.client_properties())
        admin.delete_topics([DECLARATIONS])[DECLARATIONS].result(waiting.LIMIT)
        with pytest.raises(
            KsqlError, match=r"created by another statement: .*`size` > 0.* then, .*`size` > 1.* now.*script --drop"
        ):
            other.opened().__enter__()


def _renamed(app: type[Context], like: type[Context]) -> Any:
    """The declaration of one context with the topics of another."""
    declare = app.on_model_creating
    (ticks_topic, hours_topic, bars_topic) = like.topics_of_tests  # type: ignore[attr-defined]

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        declare(self, model)
        for entity, topic in ((Tick, ticks_topic), (Hours, hours_topic), (Bar, bars_topic)):
            model.entity(entity).topic(topic)

    return on_model_creating


def test_what_the_server_refuses_is_said_with_the_statement_and_nothing_is_left_half_made(cluster: Cluster) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server)
        message = {"@type": "statement_error", "error_code": 40001, "message": "No such function", "statementText": "CREATE .."}
        server.refuses = lambda body: (400, message | {"entities": []}) if "CREATE TABLE" in body else None
        with pytest.raises(KsqlError, match=r"No such function \(code 40001\); nothing was created\nCREATE"):
            found.opened().__enter__()
        assert not server.queries


def test_a_server_that_is_away_is_named(cluster: Cluster) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server)
    with pytest.raises(KsqlUnavailableError, match=r"ksqlDB at http://127.0.0.1:\d+, .*: cannot be reached"):
        found.opened().__enter__()


def test_a_server_of_no_known_version_is_named_before_anything_is_made(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server)
        server.version = "unknown"
        with pytest.raises(KsqlError, match="ksqlDB reports 'unknown' as its version, which is not a number"):
            found.opened().__enter__()
        assert not [each for each in server.asked if each.startswith("CREATE")]
        server.version = "8.0.1"
        with found.opened():
            assert "the version of ksqlDB is 8.0.1, but kandle is tested with 7.4" in caplog.text


def test_a_topic_of_other_columns_is_named_before_anything_is_made(cluster: Cluster) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = Play(market(), cluster, server, datetime.now(UTC), [])
        topic = entity_topic(entity_model(Tick), next(iter(found.app.topics_of_tests)))  # type: ignore[attr-defined]
        log = KafkaLog(KafkaSettings(cluster.bootstrap))
        log.ensure(replace(topic, columns=tuple(each for each in topic.columns if each.name != "price")))
        log.close()
        with pytest.raises(SchemaError, match=f"topic {topic.name} has no column price; a new column must be nullable"):
            found.opened().__enter__()
        assert not [each for each in server.asked if each.startswith("CREATE")]


def test_options_that_do_not_go_together_are_named(cluster: Cluster) -> None:
    app = market(avro=True)
    engine: dict[str, Any] = {"engine": {"kind": "ksqldb"}, "topics": app.topics_of_tests}  # type: ignore[attr-defined]
    with pytest.raises(OptionsError, match=r"set log.kind = 'kafka' too"):
        app.open(**engine, log={"path": "never-made"}).__enter__()
    kafka: dict[str, Any] = {"log": {"kind": "kafka"}, "kafka": {"bootstrap": cluster.bootstrap}}
    with pytest.raises(OptionsError, match=r"Bar, Tick: AVRO .* set schema_registry.url, or declare .* JSON"):
        app.open(**engine, **kafka).__enter__()


def test_sets_of_values_are_refused_before_anything_is_made(cluster: Cluster) -> None:
    with standing_in(cluster.bootstrap) as server:
        found = play(cluster, server, distinct=True)
        with pytest.raises(PlanError, match=r"Bar: f.count_distinct\(Tick.price\) needs all values of a bucket"):
            found.opened().__enter__()
        assert not server.asked
