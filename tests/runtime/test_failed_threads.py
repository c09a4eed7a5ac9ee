"""Whatever ends a thread of a query is seen: the query has failed for good, or says what it has to do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kandle.log.embedded.log import EmbeddedLog
from kandle.plan.plan import plan
from kandle.plan.topics import entity_topic
from kandle.runtime.counters import QueryState
from kandle.runtime.heartbeats import HeartbeatSender
from kandle.runtime.preparing import prepare_topics
from kandle.runtime.query_runtime import QueryRuntime, RuntimeSpec
from kandle.runtime.standby import Standby
from kandle.runtime.tasks import Tasks
from kandle.time.clock import SystemClock
from tests.runtime.declarations import Bar, bars_market
from tests.waiting import wait_until


class Panic(BaseException):
    """What a library in another language raises when it has failed: no `Exception`."""


@pytest.fixture
def start() -> Iterator[Callable[..., QueryRuntime]]:
    """Starts a query with threads of its own, on a log in memory."""
    started: list[QueryRuntime] = []

    def start_query(**settings: Any) -> QueryRuntime:
        log = EmbeddedLog(None)
        model = bars_market(minutes=1).model()
        for entity in model.entities.values():
            if entity.cls is not Bar:
                log.ensure(entity_topic(entity))
        (topics,) = prepare_topics(log, [plan(model.queries[Bar])])
        started.append(QueryRuntime(log.connect(), SystemClock(), topics, RuntimeSpec("one", "tests", **settings)))
        started[-1].start()
        return started[-1]

    yield start_query
    for query in started:
        query.stop()


def broken(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [ValueError("no such zone"), Panic("index out of bounds")], ids=["error", "panic"])
def test_heartbeats_that_have_ended_end_the_query_and_its_next_round_does_not_hide_it(
    start: Callable[..., QueryRuntime], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(HeartbeatSender, "send", broken(error))
    query = start()
    wait_until(lambda: query.worker.state is QueryState.FAILED, "failure", seen=query.health)
    wait_until(lambda: not any(thread.is_alive() for thread in query._threads), "the end of the worker")
    health = query.health()
    assert (health.state, health.problem, health.partitions) == (QueryState.FAILED, str(error), ())


@pytest.mark.parametrize("error", [ValueError("no such zone"), Panic("index out of bounds")], ids=["error", "panic"])
def test_a_worker_that_has_ended_has_failed_whatever_the_error_is(
    start: Callable[..., QueryRuntime], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(Tasks, "work", broken(error))
    query = start()
    wait_until(lambda: query.worker.state is QueryState.FAILED, "failure", seen=query.health)
    assert query.health().problem == str(error)


def test_a_failure_outlasts_an_outage_that_heals(start: Callable[..., QueryRuntime]) -> None:
    query = start()
    wait_until(lambda: query.worker.state is QueryState.RUNNING, "running")
    query.fail(ValueError("the schedule is gone"))
    query.worker.attempt()
    assert (query.worker.state, str(query.worker.problem)) == (QueryState.FAILED, "the schedule is gone")


def test_a_standby_that_has_ended_is_a_problem_in_health_and_the_query_goes_on(
    start: Callable[..., QueryRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kandle.runtime.standby.EVERY", 1)
    monkeypatch.setattr(Standby, "step", broken(Panic("index out of bounds")))
    query = start(standby=True)
    wait_until(lambda: query.health().problem is not None, "the problem", seen=query.health)
    health = query.health()
    assert health.state is QueryState.RUNNING
    assert health.problem == "the standby has ended, so takeovers restore all state from the log: index out of bounds"
