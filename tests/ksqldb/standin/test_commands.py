"""The command line beside a ksqlDB: what it would create, what is there, how it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kandle.cli.app import app
from tests.ksqldb.standin.server import StandIn, standing_in
from tests.ksqldb.standin.test_live import play
from tools.kafka.cluster import Cluster

MODULE = "market_of_commands"


def printed(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def server(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    monkeypatch.chdir(tmp_path)
    with standing_in(cluster.bootstrap) as server:
        monkeypatch.setenv("KANDLE_KSQLDB__URL", server.url)
        yield server


def test_the_script_beside_a_server_says_what_would_be_created_and_what_is_left(
    server: StandIn, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = play(cluster, server)
    module = type(sys)(MODULE)
    module.Market = found.app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    for number, (topic, _) in enumerate(found.app.topics_of_tests.items()):  # type: ignore[attr-defined]
        monkeypatch.setenv(f"KANDLE_TOPICS__{topic}__KEY_FORMAT", "JSON")
        monkeypatch.setenv(f"KANDLE_TOPICS__{topic}__VALUE_FORMAT", "JSON")
        assert number < 3
    lines = printed("script", f"{MODULE}:Market", "--diff", code=1).splitlines()
    assert {line.split()[0] for line in lines} == {"create"}
    with found.opened():
        lines = printed("script", f"{MODULE}:Market", "--diff", code=1).splitlines()
        (table,) = [line for line in lines if "_1s_live" in line]
        assert table.split()[:2] == ["keep", "table"]
        (name,) = server.queries
        server.texts[name] = server.texts[name].replace("MAX(", "MIN(")
        assert "differs" in printed("script", f"{MODULE}:Market", "--diff", code=1)


def test_the_script_beside_a_server_has_the_retention_that_is_configured(
    server: StandIn, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = play(cluster, server)
    module = type(sys)(MODULE)
    module.Market = found.app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setenv("KANDLE_KSQLDB__RETENTION", "30d")
    with found.opened():
        assert "RETENTION 30 DAYS, GRACE PERIOD 29 DAYS" in "".join(server.texts.values())
        lines = printed("script", f"{MODULE}:Market", "--diff", code=1).splitlines()
        assert [line.split()[0] for line in lines if "_1s_live" in line] == ["keep"]
        assert "differs" in printed("script", f"{MODULE}:Market", "--diff", "--retention", "7d", code=1)


def test_doctor_looks_at_the_server(server: StandIn, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANDLE_KAFKA__BOOTSTRAP", cluster.bootstrap)
    monkeypatch.setenv("KANDLE_ENGINE__KIND", "ksqldb")
    assert f"version 7.4.0 at {server.url}" in printed("doctor", "--log", "kafka")
    server.version = "8.1.0"
    assert "the version of ksqlDB is 8.1.0, but kandle is tested with 7.4" in printed("doctor", "--log", "kafka")
    server.version = "nightly"
    assert "ksqlDB reports 'nightly' as its version, which is not a number" in printed("doctor", "--log", "kafka", code=1)
    monkeypatch.setenv("KANDLE_KSQLDB__URL", "http://127.0.0.1:1")
    assert "problem  ksqldb" in printed("doctor", "--log", "kafka", code=1)
