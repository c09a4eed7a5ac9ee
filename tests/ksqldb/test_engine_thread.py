"""The thread that watches over queries of ksqlDB: what ends it ends the queries, visibly."""

from __future__ import annotations

from typing import Any

import pytest

from kandle.ksqldb.engine import EngineSpec, KsqlRuntime
from kandle.ksqldb.settings import KsqlSettings
from kandle.log.embedded.log import EmbeddedLog
from kandle.plan.plan import plan
from kandle.runtime.counters import QueryState
from kandle.runtime.query_runtime import RuntimeSpec
from kandle.time.clock import SystemClock
from tests.runtime.declarations import Bar, bars_market
from tests.waiting import wait_until


class Panic(BaseException):
    """What a library in another language raises when it has failed: no `Exception`."""


def test_an_error_that_ends_the_watch_is_the_problem_of_all_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kandle.ksqldb.engine.SECOND", 1_000)
    calls: list[None] = []

    def begin(_: Any) -> None:
        calls.append(None)
        if len(calls) > 1:
            raise Panic("index out of bounds")

    monkeypatch.setattr(KsqlRuntime, "_begin", begin)
    log = EmbeddedLog(None)
    plans = [plan(bars_market(minutes=1).model().queries[Bar])]
    progress: Any = None
    runtime = KsqlRuntime(
        log, SystemClock(), plans, RuntimeSpec("one", "tests"), EngineSpec(KsqlSettings("http://nowhere:1"), {}), progress
    )
    runtime.start()
    wait_until(lambda: runtime.problems, "the problem")
    (health,) = runtime.health().queries
    assert {name: str(error) for name, error in runtime.problems.items()} == {"Bar": "index out of bounds"}
    assert (health.state, health.problem) == (QueryState.FAILED, "index out of bounds")
    runtime.stop()
    log.close()
