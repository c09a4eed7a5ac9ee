"""`kandle script` and `kandle avro`: what a model is on ksqlDB and in Avro, without any server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Here
from tests.cli.test_app import APP
from tests.ksqldb.simulator.checking import check_script

JOINED = """
from dataclasses import dataclass
from typing import Annotated

from script_app import *
from kandle import TableSet

@kandle.table("meters")
@dataclass
class Meter:
    number: Annotated[str, Key(0)]
    factor: int

class Joined(Context):
    readings: EventSet[Reading]
    meters: TableSet[Meter]
    means: EventSet[Mean]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Mean).to_query(
            lambda q: q.from_(Reading)
            .join(Meter, on=lambda r, m: r.meter == m.number)
            .tumbling(lambda r, m: r.at, {frames})
            .group_by(lambda r, m: r.meter)
            .select(lambda r, m, w: Mean(meter=r.meter, start=w.start, greatest=f.max(r.value), readings=f.sum(m.factor)))
        )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("script")
    (found / "script_app.py").write_text(APP.replace("{frames}", "minutes=(1, 5)"))
    (found / "script_joined.py").write_text(JOINED.replace("{frames}", "minutes=1"))
    (found / "script_weekly.py").write_text(APP.replace("{frames}", "days=1, weeks=1"))
    text = APP.replace('stream("readings"', 'stream("readings", key_format="JSON", value_format="JSON"')
    context = "class App(Context):\n    readings: EventSet[Reading]\n"
    (found / "script_plain.py").write_text(text[: text.index('@kandle.stream("means")')] + context)
    return found


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    return Here(capsys)


def test_a_script_is_printed_and_nothing_else_is_made(here: Here, folder: Path) -> None:
    code, printed, errors = here.run("script", "script_app:App")
    assert (code, errors) == (0, "")
    assert printed.startswith("-- App on ksqlDB, role live, written by kandle script.\n")
    assert "CREATE TABLE IF NOT EXISTS `means_1m_live`" in printed
    assert check_script(printed) == []
    assert not (folder / "kandle-data").exists()


def test_a_script_of_role_all_goes_into_a_file(here: Here, folder: Path) -> None:
    shown = here.output("script", "script_app:App", "--role", "all", "--out", "made/all.sql", "--retention", "30d")
    assert shown == ["10 statements written to made/all.sql"]
    text = (folder / "made" / "all.sql").read_text()
    assert "RETENTION 30 DAYS" in text
    assert "EMIT FINAL" in text
    assert check_script(text) == []


def test_a_join_has_a_script_though_the_embedded_engine_cannot_run_it(here: Here, folder: Path) -> None:
    printed = "\n".join(here.output("script", "script_joined:Joined"))
    assert "JOIN `meters` `o` ON `t`.`meter` = `o`.`number`" in printed
    assert check_script(printed) == []
    (folder / "t.csv").write_text("meter,at,value\nm1,2024-01-01T00:00:10Z,1.5\n")
    message = here.failure("backfill", "script_joined:Joined", "--ticks", "t.csv", "--out", "out")
    assert 'runs on ksqlDB only: set [engine] kind = "ksqldb"' in message


def test_what_takes_a_script_away_is_printed_too(here: Here, folder: Path) -> None:
    assert here.output("script", "script_app:App", "--drop")[2:] == [
        "DROP TABLE IF EXISTS `means_1m_live` DELETE TOPIC;",
        "DROP STREAM IF EXISTS `readings`;",
    ]


def test_what_ksqldb_cannot_do_is_one_line_with_the_way_out(here: Here, folder: Path) -> None:
    message = here.failure("script", "script_weekly:App", "--role", "all")
    assert "query of Mean on ksqlDB: Mean: ksqlDB cannot make bars of 1wk" in message
    assert 'use role "live", in which kandle makes them' in message
    assert "there is no module" in here.failure("script", "nowhere:App")
    assert "'soon' is not a duration" in here.failure("script", "script_app:App", "--grace", "soon")


@pytest.mark.parametrize(
    ("given", "window"),
    [
        ([], "RETENTION 7 DAYS, GRACE PERIOD 6 DAYS"),
        (["--retention", "30d"], "RETENTION 30 DAYS, GRACE PERIOD 29 DAYS"),
        (["--retention", "30d", "--grace", "2h"], "RETENTION 30 DAYS, GRACE PERIOD 2 HOURS"),
        (["--retention", "12h"], "RETENTION 12 HOURS, GRACE PERIOD 0 SECONDS"),
    ],
)
def test_windows_take_late_events_until_a_day_before_they_go(here: Here, given: list[str], window: str) -> None:
    assert window in "\n".join(here.output("script", "script_app:App", *given))


def test_late_events_cannot_be_taken_for_longer_than_their_windows_are_kept(here: Here) -> None:
    message = here.failure("script", "script_app:App", "--retention", "3d", "--grace", "6d")
    assert "--grace 6d must be shorter than --retention 3d: a late event needs its window" in message
    assert "--grace 8d must be shorter" in here.failure("script", "script_app:App", "--grace", "8d")


@pytest.mark.parametrize("more", [["--drop"], ["--out", "all.sql"]])
def test_a_comparison_writes_nothing_and_says_so(here: Here, folder: Path, more: list[str]) -> None:
    message = here.failure("script", "script_app:App", "--diff", *more)
    assert "--diff cannot be combined with --drop or --out" in message


def test_a_script_that_cannot_be_written_says_where(here: Here, folder: Path) -> None:
    (folder / "taken").write_text("")
    assert "taken/all.sql cannot be written" in here.failure("script", "script_app:App", "--out", "taken/all.sql")


def test_avro_schemas_are_those_of_all_topics(here: Here, folder: Path) -> None:
    (line,) = here.output("avro", "script_app:App", "--json")
    schemas = json.loads(line)
    assert list(schemas) == [
        *("readings-key", "readings-value"),
        *("means_1m_live-key", "means_1m_live-value", "means_1m_final-key", "means_1m_final-value"),
        *("means_5m_live-key", "means_5m_live-value", "means_5m_final-key", "means_5m_final-value"),
        *("means_hb_1m-key", "means_hb_1m-value"),
        "means_changelog-value",
        *("means_dlq-key", "means_dlq-value"),
    ]
    assert schemas["readings-key"] == "string"
    assert [field["name"] for field in schemas["means_5m_final-key"]["fields"]] == ["meter", "start"]
    assert schemas["readings-value"]["fields"][1]["type"] == {
        "type": "bytes",
        "logicalType": "decimal",
        "precision": 9,
        "scale": 2,
    }


def test_avro_schemas_go_into_files_by_subject(here: Here, folder: Path) -> None:
    assert here.output("avro", "script_app:App", "--out", "schemas") == ["15 schemas written to schemas"]
    assert json.loads((folder / "schemas" / "readings-key.avsc").read_text()) == "string"
    assert here.output("avro", "script_app:App")[:5] == ["// readings-key", '"string"', "", "// readings-value", "{"]


def test_a_model_without_avro_has_no_schemas(here: Here, folder: Path) -> None:
    message = here.failure("avro", "script_plain:App")
    assert "no topic of App has AVRO as key_format or value_format, so there are no schemas" in message
