import json
import signal
from pathlib import Path

import pytest

from tests.cli.commands import Here, Processes
from tests.cli.logs import readings_log, write


@pytest.fixture
def data(tmp_path: Path) -> str:
    folder = tmp_path / "data"
    readings_log(folder).close()
    return str(folder)


def test_all_topics_are_listed_with_sizes_and_settings(here: Here, data: str) -> None:
    head, *rows = here.output("topics", "list", "--data", data)
    assert head.split() == ["topic", "partitions", "records", "size", "retention", "compacted"]
    cells = [row.split() for row in rows]
    assert [cell[:3] for cell in cells] == [["latest", "1", "2"], ["readings", "2", "5"]]
    assert [cell[-2:] for cell in cells] == [["ever", "yes"], ["1m30s", "no"]]


def test_all_topics_are_listed_as_json(here: Here, data: str) -> None:
    latest, readings = map(json.loads, here.output("topics", "list", "--data", data, "--json"))
    assert readings.pop("bytes") > 0
    assert readings == {
        "topic": "readings",
        "partitions": 2,
        "records": 5,
        "retention": "1m30s",
        "retention_bytes": None,
        "compacted": False,
    }
    assert latest["retention"] is None


def test_a_topic_is_described_with_columns_keys_and_offsets(here: Here, data: str) -> None:
    lines = [line.split() for line in here.output("topics", "describe", "readings", "--data", data)]
    assert ["key", "meter"] in lines
    assert ["time", "at"] in lines
    assert ["value", "Decimal(9,", "2)"] in lines
    assert ["note", "str", "nullable"] in lines
    assert [line[:4] for line in lines[-2:]] == [["0", "0", "3", "3"], ["1", "0", "2", "2"]]
    (line,) = here.output("topics", "describe", "readings", "--data", data, "--json")
    found = json.loads(line)
    assert found["keys"] == ["meter"]
    assert found["columns"][2] == {"name": "value", "type": "Decimal(9, 2)", "nullable": False}
    assert [(each["start"], each["end"]) for each in found["offsets"]] == [(0, 3), (0, 2)]


def test_the_newest_records_are_shown_without_escape_codes(here: Here, data: str) -> None:
    head, *rows = here.output("topics", "tail", "readings", "--data", data)
    assert head.split() == ["partition", "offset", "timestamp", "meter", "at", "value", "note", "headers"]
    assert [row.split()[:2] for row in rows] == [["0", "0"], ["0", "1"], ["0", "2"], ["1", "0"], ["1", "1"]]
    assert rows[0].endswith("source=a b")
    assert rows[4].split()[3:6] == ["\\x1b[31mred\\n", "2024-03-08T12:00:01.000Z", "0.05"]
    assert len(here.output("topics", "tail", "readings", "-n", "2", "--data", data)) == 3


def test_the_newest_records_are_shown_as_json(here: Here, data: str) -> None:
    first, *_, last = map(json.loads, here.output("topics", "tail", "readings", "--data", data, "--json"))
    assert first == {
        "partition": 0,
        "offset": 0,
        "timestamp": "2024-03-08T12:00:00.000Z",
        "headers": {"source": "a b"},
        "tombstone": False,
        "value": {"meter": "m1", "at": "2024-03-08T12:00:00.000Z", "value": "1.50", "note": None},
    }
    assert last["value"]["meter"] == "\x1b[31mred\n"
    _, gone = map(json.loads, here.output("topics", "tail", "latest", "--data", data, "--json"))
    assert (gone["tombstone"], gone["value"]) == (True, {"meter": "m2"})
    assert here.output("topics", "tail", "latest", "--data", data)[-1].endswith("(removed)")


def test_new_records_are_followed_as_they_come(tmp_path: Path, processes: Processes) -> None:
    log = readings_log(tmp_path / "other")
    command = processes.start(tmp_path, "topics", "tail", "readings", "-n", "1", "-f", "--json", "--data", "other")
    offsets = [json.loads(command.next_line())["offset"]]
    for number in range(3):
        log.append([write(1, ["m9"], [number])])
        offsets.append(json.loads(command.next_line())["offset"])
    assert offsets == [1, 2, 3, 4]
    command.send(signal.SIGINT)
    command.ended(130)


def test_help_is_shown_where_no_command_is_named(here: Here) -> None:
    assert here.output("topics") == here.output("topics", "--help")


def test_what_cannot_be_done_is_one_line(here: Here, data: str, tmp_path: Path) -> None:
    assert here.failure("topics", "tail", "reading", "--data", data).startswith(
        "there is no topic 'reading'; there are latest, readings"
    )
    missing = str(tmp_path / "missing")
    for command in (["list"], ["describe", "readings"], ["tail", "readings"]):
        assert here.failure("topics", *command, "--data", missing).startswith(f"the data folder {missing} does not exist")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "data" / "log.db").write_bytes(b"no database" * 1000)
    assert "the file is damaged or not a log" in here.failure("topics", "list", "--data", data)


def test_the_configuration_names_the_folder(here: Here, data: str, tmp_path: Path) -> None:
    config = tmp_path / "other.toml"
    config.write_text(f'[log]\npath = "{data}"\n')
    assert len(here.output("topics", "list", "--config", str(config))) == 3
    assert here.failure("topics", "list") == (
        "the data folder kandle-data does not exist; name another with --data, or create it with `kandle run`"
    )
    assert here.failure("topics", "list", "--config", "none.toml") == "there is no configuration file none.toml"


def test_a_long_value_is_cut_in_the_table_and_whole_as_json(here: Here, tmp_path: Path) -> None:
    text, folder = "x" * 500, tmp_path / "long"
    log = readings_log(folder)
    log.append([write(0, [text], [100])])
    log.close()
    tail = ("topics", "tail", "readings", "--data", str(folder))
    table = here.output(*tail)
    assert any("xxx... (500)" in line for line in table) and max(map(len, table)) < 200
    assert any(text in line for line in here.output(*tail, "--json"))
