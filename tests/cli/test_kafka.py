"""The command line on a real Kafka."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from kandle.time.clock import SystemClock
from kandle.time.timeframe import HOUR, MILLISECOND, SECOND
from tests.serde.serving import serving
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
from datetime import UTC, datetime
from app import App, Tick
with App.open(access="write_only", log={"kind": "kafka"}, kafka={"bootstrap": sys.argv[1]}) as app:
    app.ticks.add(Tick(datetime.now(UTC).replace(microsecond=0), "a", 7))
"""


class Shop:
    """A folder with an application whose topics no other test has, and commands in it."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder, self.log = folder, f"kafka://{bootstrap}"
        self.name = f"t{uuid4().hex[:8]}"
        (folder / "app.py").write_text(APP.format(name=self.name))

    def start(self, *words: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path("src").absolute()), str(self.folder)])}
        return subprocess.Popen(
            [sys.executable, *words], cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start("-m", "kandle.cli", *words, "--log", self.log)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        return output + errors


@pytest.fixture
def shop(tmp_path: Path, bootstrap: str) -> Shop:
    return Shop(tmp_path, bootstrap)


def test_bars_are_made_and_read_on_a_cluster(shop: Shop) -> None:
    worker = shop.start("-m", "kandle.cli", "run", "app:App", "--log", shop.log)
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline().endswith(f"Kafka at {shop.log.removeprefix('kafka://')}\n")
        assert shop.start("-c", ADD, shop.log.removeprefix("kafka://")).wait(60) == 0
        clock, until = SystemClock(), SystemClock().steady() + 60 * SECOND
        while not (found := shop.run("bars", "app:App", "Sum", "1s", "a").splitlines()[1:]):
            assert clock.steady() < until and worker.poll() is None
            clock.pause(100 * MILLISECOND)
        assert found[0].split()[0] == "a" and found[0].split()[-1] == "7"
    finally:
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    listed = [line.split() for line in shop.run("topics", "list").splitlines() if line.startswith(f"{shop.name}_ticks ")]
    assert [row[:4] for row in listed] == [[f"{shop.name}_ticks", "1", "1", "-"]]
    assert "the topics may be read and written" in shop.run("doctor", "app:App")


def test_records_that_cannot_be_read_are_told_beside_those_that_can(shop: Shop) -> None:
    bootstrap = shop.log.removeprefix("kafka://")
    assert shop.start("-c", ADD, bootstrap).wait(60) == 0
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(f"{shop.name}_ticks", key=b"torn", value=b"torn")
    assert producer.flush(30) == 0
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
    assert '"no.such.setting"; look at the options kafka.properties, ' in problem and "secret" not in said


def test_a_log_that_there_is_not_is_refused_with_the_valid_ones(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "")
    assert "--log kafka:// is not known; there are embedded, kafka and kafka://HOST:PORT" in shop.run("topics", "list", code=2)


def test_doctor_looks_for_the_registry(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as registry:
        monkeypatch.setenv("KANDLE_SCHEMA_REGISTRY__URL", registry.url)
        assert "the schema registry answers" in shop.run("doctor", "app:App", code=1)
    said = shop.run("doctor", "app:App", code=1)
    assert "problem  registry" in said and "schema_registry.url" in said


def test_doctor_names_the_topic_whose_records_are_of_the_future(shop: Shop) -> None:
    bootstrap = shop.log.removeprefix("kafka://")
    assert shop.start("-c", ADD, bootstrap).wait(60) == 0
    assert ", after all records" in shop.run("doctor", "app:App")
    # What others have written, by a clock that is an hour ahead.
    later = SystemClock().now() // MILLISECOND + HOUR // MILLISECOND
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(f"{shop.name}_ticks", key=b"a", value=b"", timestamp=later)
    assert producer.flush(30) == 0
    said = shop.run("doctor", "app:App", code=1)
    assert f"a record of topic {shop.name}_ticks was written 3,59" in said
