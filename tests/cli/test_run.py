"""`kandle run` and `kandle bars` as processes, on ticks that the test adds."""

import json
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kandle.cli.demo_market import Market, Tick
from kandle.cli.run import ProgressReport
from kandle.context.options import Options
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.records import Records, Write
from kandle.runtime.counters import Counters, Health, QueryHealth, QueryState, TimeframeCounters
from kandle.serde.keys import partition_numbers
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND, from_instant
from tests.cli.commands import Here, Processes, failure, run
from tests.processes import RunningProcess
from tests.waiting import wait_for

MARKET = "kandle.cli.demo:Market"
CLOCK = SystemClock()


def add(folder: Path, *ticks: tuple[str, datetime, str]) -> None:
    """Add ticks as another process would."""
    with Market(Options(access="write_only", log={"path": str(folder)})) as market:
        market.ticks.add_many([Tick(symbol, time, Decimal(price), 1) for symbol, time, price in ticks])


def coming_second() -> datetime:
    """A second that begins so late that its events are there before it is over, however busy the machine is."""
    now = CLOCK.now()
    return from_instant(now - now % SECOND + 5 * SECOND)


@dataclass(frozen=True, slots=True)
class Running:
    """A data folder, the process that makes bars in it, and what that said first."""

    folder: Path
    process: RunningProcess
    said: dict[str, Any]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("run")
    processes = Processes()
    command = processes.start(folder, "run", MARKET, "--data", "data", "--instance", "one", "--json")
    yield Running(folder / "data", command, json.loads(command.next_line()))
    processes.close()


def test_what_runs_is_said_first(running: Running) -> None:
    folder, said = running.folder, running.said
    assert (said["context"], said["instance"], said["data"]) == ("kandle.cli.demo_market:Market", "one", str(folder))
    assert [bar["final"] for bar in said["queries"][0]["bars"]] == ["bars_1s_final", "bars_5s_final", "bars_15s_final"]


def test_bars_are_printed_and_followed(running: Running, here: Here, processes: Processes) -> None:
    folder = running.folder
    start = coming_second()
    add(folder, ("B", start, "7"), ("A", start, "10.00"), ("A", start + timedelta(milliseconds=200), "12.50"))
    follower = processes.start(folder.parent, "bars", MARKET, "Bar", "1s", "A", "--follow", "--json", "--data", "data")
    first, second = (json.loads(follower.next_line()) for _ in range(2))
    follower.send(signal.SIGINT)
    follower.ended(130)
    assert first == {
        "symbol": "A",
        "start": start.isoformat().replace("+00:00", ".000Z"),
        "open": "10.00",
        "high": "12.50",
        "low": "10.00",
        "close": "12.50",
        "volume": 2,
        "ticks": 2,
    }
    assert (second["ticks"], second["open"], second["close"]) == (0, "12.50", "12.50")

    bars = ("bars", MARKET, "Bar", "1s", "--data", str(folder))
    head, *rows = here.output(*bars)
    assert head.split() == ["symbol", "start", "open", "high", "low", "close", "volume", "ticks"]
    assert {row.split()[0] for row in rows} == {"A", "B"}
    assert [row.split()[0] for row in here.output(*bars, "--last", "1")[1:]] == ["A", "B"]
    after = (start + timedelta(seconds=1)).isoformat()
    assert len(here.output(*bars, "A", "--until", after)) == 2
    assert len(here.output(*bars, "A", "--from", start.isoformat(), "--until", after, "--json")) == 1
    states = {json.loads(line)["_state"] for line in here.output(*bars[:3], "15s", *bars[4:], "--live", "--json")}
    assert states <= {"live", "final"} and states


def test_doctor_finds_nothing_wrong_while_it_runs(running: Running, here: Here) -> None:
    folder = running.folder

    def findings() -> list[str]:
        _, output, _ = here.run("doctor", MARKET, "--data", str(folder))
        return output.splitlines()

    lines = wait_for(findings, lambda lines: {line.split()[0] for line in lines} == {"ok"}, "only findings that are ok")
    assert any("group kandle-bars: members market-one, 4 partitions, lag " in line for line in lines)
    assert "is in use; stop all processes" in here.failure("doctor", "--repair", "--data", str(folder))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Bars", "1s"), "Market makes no bars of 'Bars'; did you mean 'Bar'? Choose from: Bar"),
        (("Bar", "1m"), "Bar has no bars of '1m'"),
        (("Bar", "soon"), "Bar has no bars of 'soon'"),
        (("Bar",), "name an entity and a timeframe, such as `Bar 5m`"),
        (("Bar", "1s", "A", "B"), "key part Bar.start = 'B' is not "),
        (("Bar", "1s", "--from", "soon"), "'soon' is not a point in time"),
        (("Bar", "1s", "--last", "0"), "Invalid value for '--last'"),
    ],
)
def test_bars_that_are_not_there_are_one_line(running: Running, here: Here, arguments: tuple[str, ...], message: str) -> None:
    folder = running.folder
    assert here.failure("bars", MARKET, *arguments, "--data", str(folder)).startswith(message)


def test_a_key_without_bars_is_said_beside_the_output(running: Running, here: Here) -> None:
    code, out, errors = here.run("bars", MARKET, "Bar", "1s", "NOBODY", "--data", str(running.folder))
    assert (code, len(out.splitlines())) == (0, 1)
    assert errors == "kandle: no such bars yet; --live shows those of open buckets\n"
    assert here.run("bars", MARKET, "Bar", "1s", "NOBODY", "--json", "--data", str(running.folder)) == (0, "", "")


def test_a_signal_hands_over_and_ends_it_well(running: Running, here: Here) -> None:
    folder, command = running.folder, running.process
    # The process has something to report, whichever tests ran before this one.
    add(folder, ("C", coming_second(), "1"))
    bars = ("bars", MARKET, "Bar", "1s", "C", "--data", str(folder), "--json")
    wait_for(lambda: here.run(*bars)[1], expected="a bar of C", check=command.check)
    command.send(signal.SIGTERM)
    _, errors = command.ended()
    events = [json.loads(line) for line in errors.splitlines()]
    assert [event["level"] for event in events] == ["info"] * len(events)
    kinds = [event["event"].split()[0] for event in events]
    assert [kind for kind, _ in groupby(kinds)] == ["assigned", "market-one", "Bar:", "market-one", "revoked"]
    log = EmbeddedLog(folder)
    (group,) = log.groups()
    assert set(group.owners.values()) == {None}
    log.close()


def test_without_a_terminal_or_json_it_is_plain_text(tmp_path: Path, processes: Processes) -> None:
    command = processes.start(tmp_path, "run", MARKET, "--instance", "two")
    lines = [command.next_line() for _ in range(6)]
    command.next_error()
    command.next_error()
    command.send(signal.SIGINT)
    output, errors = command.ended()
    assert lines[0] == f"kandle.cli.demo_market:Market runs as two, data in {tmp_path / 'kandle-data'}\n"
    assert lines[1:3] == ["Bar <- Tick\n", "  1s   bars_1s_live, bars_1s_final\n"]
    assert lines[5] == "Press Ctrl-C to stop\n"
    assert "info    assigned to market-two: " in errors
    assert "\x1b" not in "".join(lines) + output + errors


SUMS = """
from kandle.cli.demo_market import *

@kandle.stream("sums")
@dataclass
class Sum:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    total: Annotated[Decimal, Precision(4, 2)]

class Sums(Context):
    ticks: EventSet[Tick]
    sums: EventSet[Sum]

    def on_model_creating(self, model):
        model.entity(Sum).to_query(
            lambda q: q.from_(Tick)
            .tumbling(lambda t: t.time, seconds=1)
            .group_by(lambda t: t.symbol)
            .select(lambda t, w: Sum(symbol=t.symbol, start=w.start, total=f.sum(t.price)))
        )
"""


def test_a_bar_that_does_not_fit_is_told_and_the_others_go_on(tmp_path: Path, processes: Processes) -> None:
    (tmp_path / "app.py").write_text(SUMS)
    (tmp_path / "kandle.toml").write_text('validation = "relaxed"')
    command = processes.start(tmp_path, "run", "app:Sums", "--data", "data")
    command.next_line()
    start = coming_second()
    add(tmp_path / "data", ("A", start, "60.00"), ("A", start, "60.00"), ("B", start, "60.00"))
    log = EmbeddedLog(tmp_path / "data")
    wait_for(lambda: sum(log.ends("sums_1s_final")) >= 2, expected="finals of B")
    log.close()
    command.send(signal.SIGINT)
    _, errors = command.ended()
    assert "bars of ticks, partition 0, do not fit and are named in topic sums_dlq" in errors
    assert f"Sum.total = 120.00 does not fit Decimal(4, 2) (bar symbol=A, start={start}, 1s)" in errors


TWO = """
import kandle
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from kandle import Context, EventSet, Key, Timestamp, functions as f

def events(topic):
    @kandle.stream(topic, partitions=2)
    @dataclass
    class Event:
        key: Annotated[str, Key(0)]
        time: Annotated[datetime, Timestamp()]
    return Event

@kandle.stream("counts_a", partitions=2)
@dataclass
class CountA:
    key: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    events: int

@kandle.stream("counts_b", partitions=2)
@dataclass
class CountB:
    key: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    events: int

A, B = events("a"), events("b")

class Two(Context):
    a: EventSet[A]
    b: EventSet[B]
    counts_a: EventSet[CountA]
    counts_b: EventSet[CountB]

    def on_model_creating(self, model):
        for source, target in ((A, CountA), (B, CountB)):
            model.entity(target).to_query(
                lambda q, source=source, target=target: q.from_(source)
                .tumbling(lambda t: t.time, seconds=1)
                .group_by(lambda t: t.key)
                .select(lambda t, w: target(key=t.key, start=w.start, events=f.count()))
            )
"""


def append_event(log: EmbeddedLog, topic: str, partition: int) -> None:
    """Append an event of key "x", which belongs to one of two partitions."""
    frame = pl.DataFrame({"key": ["x"], "time": [coming_second()]}, schema=log.topic(topic).schema)
    log.append([Write(topic, partition, Records(frame))])


def test_when_a_query_fails_the_others_go_on_and_the_exit_code_tells_at_the_end(tmp_path: Path, processes: Processes) -> None:
    (tmp_path / "app.py").write_text(TWO)
    command = processes.start(tmp_path, "run", "app:Two", "--data", "data")
    command.next_line()
    log = EmbeddedLog(tmp_path / "data")
    for partition in (0, 1):
        # One of them is the wrong one.
        append_event(log, "a", partition)
    while "has failed; 1 of 2 queries go on" not in (line := command.next_error()):
        assert line
    assert "CountA has failed" in line
    right = int(partition_numbers(pl.DataFrame({"key": ["x"]}), 2)[0])
    append_event(log, "b", right)
    wait_for(lambda: sum(log.ends("counts_b_1s_final")) >= 1, expected="finals of the other query")
    log.close()
    command.send(signal.SIGINT)
    _, errors = command.ended(2)
    assert errors.splitlines()[-1].startswith("kandle: error: a worker has failed: CountA: topic a: the key x is in partition ")
    assert "Traceback" not in errors


def test_what_cannot_run_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from kandle import Context\nclass Empty(Context): ...\n")
    assert failure(tmp_path, "run", "app:Empty") == (
        "Empty has no query with a window over time, so there is nothing to run; give an entity a query with .tumbling(...)"
    )
    assert failure(tmp_path, "run", "app:None") == "module 'app' has no 'None' (its contexts: Empty)"
    (tmp_path / "file").write_text("")
    assert "file" in failure(tmp_path, "run", MARKET, "--data", "file")
    missing = "the data folder missing does not exist; name another with --data, or create it with `kandle run`"
    assert failure(tmp_path, "bars", MARKET, "Bar", "1s", "--data", "missing") == missing
    assert run(tmp_path, "run", "--help").returncode == 0


def test_what_was_done_is_told_when_there_is_something_new(caplog: pytest.LogCaptureFixture) -> None:
    frames = {"1s": TimeframeCounters(finals=1200, gaps=3), "5s": TimeframeCounters(finals=10)}

    def health(**counted: int) -> Health:
        counters = Counters(timeframes=frames, **counted)
        query = QueryHealth("Bar", "kandle-bars", QueryState.RUNNING, True, (0,), 7, 2, 0, 1, None, None, counters)
        return Health("one", (query,))

    report = ProgressReport()
    with caplog.at_level(logging.INFO, "kandle"):
        report.log(health())
        for events in (5000, 5000, 5001):
            report.log(health(events=events, late=2, commits=9))
    first, second = [record.getMessage() for record in caplog.records]
    assert first == "Bar: 5,000 events, 2 late; 1,210 finals, 3 of them gaps; lag 7"
    assert second.startswith("Bar: 5,001 events")
