"""The command line on a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from kandle.time.clock import SystemClock
from kandle.time.timeframe import HOUR, MILLISECOND
from tests.processes import RunningProcess
from tests.serde.serving import serving
from tests.waiting import LIMIT, wait_for
from tools.kafka.ports import free_ports

APP = """
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import kandle
from kandle import Context, EventSet, Key, Timestamp, functions as f


@kandle.stream("{name}_ticks")
@dataclass(frozen=True)
class Tick:
    time: Annotated[datetime, Timestamp()]
    code: Annotated[str, Key(0)]
    size: int


@kandle.stream("{name}_sums")
@dataclass(frozen=True)
class Sum:
    code: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    size: int


class App(Context):
    ticks: EventSet[Tick]
    sums: EventSet[Sum]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Sum).to_query(
            lambda q: q.from_(Tick).tumbling(lambda t: t.time, seconds=1).group_by(lambda t: t.code)
            .select(lambda t, w: Sum(code=t.code, start=w.start, size=f.sum(t.size)))
        )
"""
ADD = """
import sys
from datetime import UTC, datetime, timedelta
from app import App, Tick
with App.open(access="write_only", log={"kind": "kafka"}, kafka={"bootstrap": sys.argv[1]}) as app:
    app.ticks.add(Tick(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=int(sys.argv[2])), "a", 7))
"""
AHEAD = 5
"""Seconds by which the time of a tick is ahead where a bar is made of it, so that it is not late on a busy machine."""


class Shop:
    """A folder with an application whose topics no other test has, and commands in it."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder, self.log = folder, f"kafka://{bootstrap}"
        self.name = f"t{uuid4().hex[:8]}"
        (folder / "app.py").write_text(APP.format(name=self.name))

    @property
    def bootstrap(self) -> str:
        return self.log.removeprefix("kafka://")

    def start(self, *words: str) -> RunningProcess:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path("src").absolute()), str(self.folder)])}
        return RunningProcess([sys.executable, *words], self.folder, environment)

    def command(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Standard output and standard error of a command that ends with this exit code."""
        return self.start("-m", "kandle.cli", *words, "--log", self.log).ended(code)

    def run(self, *words: str, code: int = 0) -> str:
        """All that such a command says."""
        return "".join(self.command(*words, code=code))

    def add(self, ahead: int = 0, script: str = ADD) -> str:
        """Add a tick whose time is so many seconds ahead; gives what is said, which is nothing."""
        return "".join(self.start("-c", script, self.bootstrap, str(ahead)).ended())

    def bars(self) -> list[dict[str, Any]]:
        """The finals of one second, from standard output alone: what a cluster is not ready for yet is said beside it."""
        output, _ = self.command("bars", "app:App", "Sum", "1s", "a", "--json")
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def shop(tmp_path: Path, bootstrap: str) -> Shop:
    return Shop(tmp_path, bootstrap)


def test_bars_are_made_and_read_on_a_cluster(shop: Shop) -> None:
    worker = shop.start("-m", "kandle.cli", "run", "app:App", "--log", shop.log)
    try:
        assert worker.next_line().endswith(f"Kafka at {shop.bootstrap}\n")
        shop.add(AHEAD)
        bar, *_ = wait_for(shop.bars, expected="a bar", check=worker.check)
        assert (bar["code"], bar["size"]) == ("a", 7)
        worker.send(signal.SIGTERM)
        worker.ended()
    finally:
        worker.kill()
    head, first, *_ = shop.command("bars", "app:App", "Sum", "1s", "a")[0].splitlines()
    assert head.split() == ["code", "start", "size"]
    assert first.split()[0] == "a" and first.split()[-1] == "7"
    listed = [line.split() for line in shop.run("topics", "list").splitlines() if line.startswith(f"{shop.name}_ticks ")]
    assert [row[:4] for row in listed] == [[f"{shop.name}_ticks", "1", "1", "-"]]
    assert "this user may read and write the topics" in shop.run("doctor", "app:App")
    group, ticks = f"kandle-{shop.name}_sums", f"{shop.name}_ticks"
    assert f"{group}  query of {shop.name}_sums  no members" in shop.run("groups", "list", group)
    assert "is the group of the query" in shop.run("groups", "reset", group, "--to", "earliest", "--yes", code=2)
    shop.run("groups", "reset", f"{shop.name}-new", "--topic", ticks, "--to", "latest", "--yes")
    described = shop.run("groups", "describe", f"{shop.name}-new").splitlines()
    assert described[0] == f"{shop.name}-new: readers, no members" and described[2].split() == [ticks, "0", "1", "1", "0"]


def test_records_that_cannot_be_read_are_told_beside_those_that_can(shop: Shop) -> None:
    shop.add()
    producer = Producer({"bootstrap.servers": shop.bootstrap})
    producer.produce(f"{shop.name}_ticks", key=b"torn", value=b"torn")
    assert producer.flush(LIMIT) == 0
    said = shop.run("topics", "tail", f"{shop.name}_ticks").splitlines()
    assert [line.split()[:2] for line in said[:2]] == [["partition", "offset"], ["0", "0"]]
    what = f"kandle: unreadable records of {shop.name}_ticks: 1; the first is at partition 0, offset 1: "
    assert said[2].startswith(what) and said[2].endswith('context = "app:Market"')


def test_all_servers_that_are_not_there_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker, registry, ksqldb = free_ports(3)
    for name, value in {
        "KAFKA__PATIENCE": "2s",
        "ENGINE__KIND": "ksqldb",
        "SCHEMA_REGISTRY__URL": f"http://127.0.0.1:{registry}",
        "KSQLDB__URL": f"http://127.0.0.1:{ksqldb}",
    }.items():
        monkeypatch.setenv(f"KANDLE_{name}", value)
    said = Shop(tmp_path, f"127.0.0.1:{broker}").run("doctor", "app:App", code=1)
    problems = [line.split()[1] for line in said.splitlines() if line.startswith("problem")]
    assert problems == ["brokers", "registry", "ksqldb"]


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_KAFKA__PATIENCE", "2s")
    (port,) = free_ports(1)
    shop = Shop(tmp_path, f"127.0.0.1:{port}")
    said = shop.run("doctor", "app:App", code=1)
    (problem,) = [line for line in said.splitlines() if line.startswith("problem")]
    assert problem.startswith(f"problem  brokers        Kafka at 127.0.0.1:{port}: ") and "kafka.bootstrap" in problem
    assert "refused" in problem and "topic" not in problem
    assert f"Kafka at 127.0.0.1:{port}" in shop.run("topics", "list", code=2)


@pytest.mark.parametrize("section", ["properties", "consumer", "producer"])
def test_doctor_names_a_setting_that_the_client_library_does_not_know(
    shop: Shop, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"KANDLE_KAFKA__{section.upper()}", '{"no.such.setting": "secret"}')
    said = shop.run("doctor", "app:App", code=1)
    (problem,) = [line for line in said.splitlines() if line.startswith("problem")]
    assert f'"no.such.setting"; look at kafka.{section}' in problem and "secret" not in said


def test_a_log_that_there_is_not_is_refused_with_the_valid_ones(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "")
    assert "--log kafka:// is not valid; write embedded, kafka or kafka://HOST:PORT" in shop.run("topics", "list", code=2)


def test_doctor_looks_for_the_registry(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as registry:
        monkeypatch.setenv("KANDLE_SCHEMA_REGISTRY__URL", registry.url)
        assert "the schema registry answers" in shop.run("doctor", "app:App", code=1)
    said = shop.run("doctor", "app:App", code=1)
    assert "problem  registry" in said and "schema_registry.url" in said


def test_doctor_names_the_topic_whose_records_are_of_the_future(shop: Shop) -> None:
    shop.add()
    assert ", later than all records" in shop.run("doctor", "app:App")
    # What others have written, by a clock that is an hour ahead.
    later = SystemClock().now() // MILLISECOND + HOUR // MILLISECOND
    producer = Producer({"bootstrap.servers": shop.bootstrap})
    producer.produce(f"{shop.name}_ticks", key=b"a", value=b"", timestamp=later)
    assert producer.flush(LIMIT) == 0
    said = shop.run("doctor", "app:App", code=1)
    assert f"a record of topic {shop.name}_ticks was written 3,59" in said
