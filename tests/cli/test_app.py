"""The command line as a user meets it: a process with arguments, two streams and an exit code."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

import kandle
from tests.cli.commands import failure, run

APP = """
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import Context, EventSet, Key, Precision, Timestamp, functions as f

@kandle.stream("readings")
@dataclass
class Reading:
    meter: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    value: Annotated[Decimal, Precision(9, 2)]

@kandle.stream("means")
@dataclass
class Mean:
    meter: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    greatest: Annotated[Decimal, Precision(9, 2)]
    readings: int

class App(Context):
    readings: EventSet[Reading]
    means: EventSet[Mean]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Mean).to_query(
            lambda q: q.from_(Reading)
            .tumbling(lambda r: r.at, {frames})
            .group_by(lambda r: r.meter)
            .select(lambda r, w: Mean(meter=r.meter, start=w.start, greatest=f.max(r.value), readings=f.count()))
        )
"""
ROWS = ["meter,at,value", "m1,2024-01-01T00:00:10Z,1.5", "m1,2024-01-01T00:02:30Z,2.25", "m2,2024-01-01T00:02:40Z,3"]
EXPECTED = """meter,start,greatest,readings
m1,2024-01-01T00:00:00.000Z,1.50,1
m1,2024-01-01T00:01:00.000Z,1.50,0
m1,2024-01-01T00:02:00.000Z,2.25,1
m2,2024-01-01T00:02:00.000Z,3.00,1
"""
BACKFILL = ("backfill", "app:App", "--ticks", "t.csv", "--out", "out", "--format", "csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP.replace("{frames}", "minutes=(1, 5)"))
    (tmp_path / "t.csv").write_text("\n".join(ROWS) + "\n")
    return tmp_path


def test_a_backfill_writes_a_file_per_timeframe_and_prints_a_summary_without_colours(folder: Path) -> None:
    done = run(folder, *BACKFILL)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["means_1m_final.csv", "means_5m_final.csv"]
    assert (folder / "out" / "means_1m_final.csv").read_text() == EXPECTED
    first, head, *rows, last = done.stdout.splitlines()
    assert first.startswith("3 ticks read in ")
    assert first.endswith("0 late, 0 filtered, 0 outside sessions, 0 outside the range")
    assert head.split() == ["timeframe", "bars", "gaps", "filled", "incomplete", "file"]
    assert [row.split() for row in rows] == [
        ["1m", "4", "1", "2", "means_1m_final.csv"],
        ["5m", "2", "0", "2", "means_5m_final.csv"],
    ]
    assert last == "Files written to out"


def test_a_summary_is_also_one_json_object(folder: Path) -> None:
    summary = json.loads(run(folder, *BACKFILL, "--json").stdout)
    assert summary["ticks_read"] == 3
    assert [each["bars"] for each in summary["timeframes"]] == [4, 2]


def test_options_of_a_backfill_reach_it(folder: Path) -> None:
    (folder / "u.csv").write_text("\n".join([ROWS[0], "m1,2024-01-01T00:03:00Z,9"]) + "\n")
    (folder / "kandle.toml").write_text('context = "app:App"\n')
    options = ["--gaps", "skip", "--from", "2024-01-01T00:01Z", "--until", "2024-01-01T00:04Z", "--complete-only", "--quiet"]
    done = run(folder, "backfill", "--ticks", "t.csv", "u.csv", "--out", "o", "--format", "ndjson", "--entity", "Mean", *options)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in (folder / "o" / "means_1m_final.ndjson").read_text().splitlines()]
    assert [(line["meter"], line["start"][14:16], line["readings"]) for line in lines] == [
        ("m1", "02", 1),
        ("m2", "02", 1),
        ("m1", "03", 1),
    ]
    assert (folder / "o" / "means_5m_final.ndjson").read_text() == ""


def test_paths_that_a_shell_has_expanded_are_all_read(folder: Path) -> None:
    parts = [folder / f"p{number}.csv" for number in range(3)]
    for part, row in zip(parts, ROWS[1:], strict=True):
        part.write_text(f"{ROWS[0]}\n{row}\n")
    names = [part.name for part in parts]
    assert run(folder, "backfill", "app:App", "--ticks", *names, "--out", "out", "--format", "csv").returncode == 0
    assert (folder / "out" / "means_1m_final.csv").read_text() == EXPECTED
    assert run(folder, "backfill", "app:App", "--ticks", "p*.csv", "--out", "glob", "--format", "csv").returncode == 0
    assert (folder / "glob" / "means_1m_final.csv").read_text() == EXPECTED


def test_explain_prints_the_tree_of_timeframes(folder: Path) -> None:
    done = run(folder, "explain", "app:App")
    assert done.returncode == 0
    assert "└─ 1m base" in done.stdout
    assert "   └─ 5m roll-up" in done.stdout


def test_version_and_help_are_there(folder: Path) -> None:
    assert run(folder, "--version").stdout == f"kandle {kandle.__version__}\n"
    assert run(folder).stdout == run(folder, "--help").stdout
    assert "--complete-only" in run(folder, "backfill", "--help").stdout


def test_the_list_of_commands_cuts_no_sentence_off(folder: Path) -> None:
    _, _, commands = run(folder, "--help").stdout.partition("Commands:")
    assert "backfill" in commands and "..." not in commands


def test_wrong_arguments_lead_to_the_help_of_their_command(folder: Path) -> None:
    assert failure(folder, "explain", "--dta", "x").endswith("; see kandle explain --help")
    assert failure(folder, "explane") == "No such command 'explane'. Did you mean 'explain'; see kandle --help"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("meter,at\nm1,2024-01-01T00:00:10Z\n", "t.csv: no column 'value' for Reading.value"),
        (f"{ROWS[0]}\n{ROWS[1]}\nm1,2024-01-01,1x\n", "t.csv, row 2, column value: '1x' is not a decimal"),
        (f"{ROWS[0]}\n{ROWS[1]}\nm1,2024-01-01,12345678.5\n", "t.csv, row 2, column value: '12345678.5' is not a decimal"),
        (f"{ROWS[0]}\nm1,yesterday,1\n", "t.csv, row 1, column at: 'yesterday' is not a datetime"),
        ("", "t.csv: the file is empty"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(folder: Path, content: str, message: str) -> None:
    (folder / "t.csv").write_text(content)
    assert failure(folder, *BACKFILL).startswith(message)
    assert not (folder / "out").exists()


def test_a_truncated_gz_is_one_line_and_leaves_what_was_there_before(folder: Path) -> None:
    run(folder, *BACKFILL)
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    (folder / "t.csv.gz").write_bytes(gzip.compress((folder / "t.csv").read_bytes() * 100)[:-20])
    assert "the file is truncated" in failure(folder, "backfill", "app:App", "--ticks", "t.csv.gz", "--out", "out")
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backfill", "app:App", "--ticks", "no.csv", "--out", "out"), "no such file: no.csv"),
        (("backfill", "app:App", "--ticks", "t.csv", "--out", "app.py"), "app.py cannot be written: "),
        (("backfill", "app:App", "--ticks", "t.csv", "--out", "out", "--format", "xls"), "unknown format 'xls'; choose one of "),
        (("backfill", "app:App", "--ticks", "t.csv", "--out", "out", "--gaps", "no"), "Invalid value for '--gaps'"),
        (("backfill", "app:App", "--ticks", "t.csv", "--out", "out", "--until", "soon"), "'soon' is not a point in time"),
        (("backfill", "app:App", "--ticks", "t.csv", "--out", "out", "--entity", "Men"), "App: 'Men' has no query"),
        (("backfill", "app:App", "--ticks", "t.csv"), "Missing option '--out'"),
        (("explain", "ap:App"), "there is no module 'ap' in "),
        (("explain", "app:Ap"), "module 'app' has no 'Ap'; did you mean 'App'?"),
        (("explain",), "name a context"),
        (("explian", "app:App"), "No such command 'explian'"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert failure(folder, *arguments).startswith(message)
    assert not (folder / "out").exists()


def test_an_unknown_timeframe_is_one_line_that_names_the_module(folder: Path) -> None:
    (folder / "bad.py").write_text(APP.replace("{frames}", 'minutes=1, grace={"7m": "2s"}'))
    line = failure(folder, "explain", "bad:App")
    assert "7m" in line


def test_debug_adds_the_traceback(folder: Path) -> None:
    done = run(folder, "explain", "app:Ap", "--debug")
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kandle: error: module 'app' has no 'Ap'")


def test_doubts_of_relaxed_validation_are_warnings_of_one_line(folder: Path) -> None:
    (folder / "app.py").write_text((folder / "app.py").read_text().replace('stream("means")', 'stream("readings")'))
    assert "have the same topic" in failure(folder, "explain", "app:App")
    (folder / "kandle.toml").write_text('validation = "relaxed"\n')
    done = run(folder, "explain", "app:App")
    assert done.returncode == 0
    assert done.stderr.startswith("kandle: warning: ")


def test_parquet_is_the_format_unless_said_otherwise(folder: Path) -> None:
    assert run(folder, "backfill", "app:App", "--ticks", "t.csv", "--out", "out").returncode == 0
    assert pl.read_parquet(folder / "out" / "means_1m_final.parquet")["readings"].to_list() == [1, 0, 1, 1]
