"""Schedules of a running query, on a cluster as on the embedded log: one wrong row stops its own key only."""

# Annotations of these classes are looked up where they are declared, so they must not be texts.
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

import kandle
from kandle import Context, EventSet, Key, TableSet, Timestamp
from kandle import functions as f
from tests.kafka.reading import everything
from tests.kafka.summing import settings, wait_until
from tests.waiting import LIMIT

DAY = timedelta(days=1)


def this_second() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Scheduled:
    """Counts of ticks by the second and key, within the sessions of the key; no other test has its topics."""

    def __init__(self) -> None:
        name = f"t{uuid4().hex[:8]}"
        self.hours_topic = f"{name}_hours"

        @kandle.stream(f"{name}_ticks")
        @dataclass(frozen=True)
        class Tick:
            code: Annotated[str, Key(0)]
            time: Annotated[datetime, Timestamp()]

        @kandle.table(self.hours_topic)
        @dataclass(frozen=True)
        class Hours:
            code: Annotated[str, Key(0)]
            number: Annotated[int, Key(1)]
            begins: datetime
            ends: datetime

        @kandle.stream(f"{name}_counts")
        @dataclass(frozen=True)
        class Count:
            code: Annotated[str, Key(0)]
            start: Annotated[datetime, Timestamp(), Key(1)]
            ticks: int

        def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
            model.entity(Count).to_query(
                lambda q: (
                    q.from_(Tick)
                    .based_on(Hours, open=lambda h: h.begins, close=lambda h: h.ends)
                    .tumbling(lambda t: t.time, seconds=1, grace="3s", gaps=kandle.Gaps.SKIP)
                    .group_by(lambda t: t.code)
                    .select(lambda t, w: Count(code=t.code, start=w.start, ticks=f.count()))
                )
            )

        self.tick, self.hours, self.count = Tick, Hours, Count
        sets = {"ticks": EventSet[Tick], "hours": TableSet[Hours], "counts": EventSet[Count]}
        namespace = {"__annotations__": sets, "on_model_creating": on_model_creating}
        self.context: Any = type(f"App{name}", (Context,), namespace)

    def around(self, code: str, days: int = 1) -> Any:
        """Return a session around now; one of -1 days ends before it begins."""
        now = this_second()
        return self.hours(code, 1, now - days * DAY, now + days * DAY)

    def ticks_of(self, market: Any, code: str) -> int:
        """Return how many ticks of a key are in finals."""
        return sum(bar.ticks for bar in market.set(self.count, "1s").to_list([code]))


@pytest.mark.parametrize("kind", ["embedded", "kafka"])
def test_one_wrong_row_stops_its_own_key_only_and_a_corrected_one_lets_it_begin(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """
    A  right                          removed at the end
    B  wrong            corrected
    C  right, then torn (on Kafka)
    """
    bootstrap = request.getfixturevalue("bootstrap") if kind == "kafka" else ""
    app = Scheduled()
    options = settings(bootstrap) if bootstrap else {"log": {"path": tmp_path / "data"}}
    with app.context.open(**options) as market:
        market.hours.add_many([app.around("A"), app.around("B", -1), app.around("C")])
        wait_until(lambda: market.health().queries[0].partitions, market)
        if bootstrap:
            tear(bootstrap, app, "C")
            wait_until(lambda: "('C',)" in str(market.health().queries[0].problem), market)
        for code in "ABC":
            market.ticks.add(app.tick(code, this_second()))
        wait_until(lambda: app.ticks_of(market, "A") == app.ticks_of(market, "C") == 1, market)
        problem = str(market.health().queries[0].problem)
        assert "of key ('B',) closes before or when it opens (partition 0, offset 1 of topic" in problem
        market.hours.add_many([app.around("B"), app.around("C")])
        wait_until(lambda: market.health().queries[0].problem is None, market)
        market.ticks.add(app.tick("B", this_second()))
        wait_until(lambda: app.ticks_of(market, "B") == 1, market)
        before = market.health().queries[0].counters.outside_sessions
        for code in "ABC":
            market.hours.remove([code, 1])
        wait_until(lambda: market.health().queries[0].schedule_sessions == 0, market)
        market.ticks.add(app.tick("A", this_second()))
        wait_until(lambda: market.health().queries[0].counters.outside_sessions == before + 1, market)


def tear(bootstrap: str, app: Scheduled, code: str) -> None:
    """Write a row of a key as somebody may do it by mistake: its end is missing."""
    message = next(message for message in everything(bootstrap, app.hours_topic) if code.encode() in (message.key() or b""))
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(app.hours_topic, key=message.key(), value=message.value()[:-3], partition=0)
    assert producer.flush(LIMIT) == 0
