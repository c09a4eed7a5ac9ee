import json
from pathlib import Path

import pytest

from kandle.log.embedded.log import EmbeddedLog
from tests.cli.commands import Here
from tests.cli.logs import readings_log

METERS = "tests.cli.declared:Meters"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    readings_log(tmp_path / "data").close()
    return tmp_path / "data"


def findings(here: Here, code: int, *arguments: str) -> list[tuple[str, str, str]]:
    found, out, errors = here.run("doctor", "--json", *arguments)
    assert (found, errors) == (code, "")
    rows = [json.loads(line) for line in out.splitlines()]
    return [(row["check"], row["level"], row["message"]) for row in rows]


def test_each_check_is_a_line(here: Here, data: Path) -> None:
    code, out, errors = here.run("doctor", "--data", str(data))
    assert (code, errors) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == ["ok", "warning", "ok", "ok", "ok", "ok", "ok"]
    assert [line[1] for line in lines] == ["configuration", "context", "data", "disk", "log", "groups", "clock"]


def test_the_model_is_compared_with_the_log(here: Here, data: Path) -> None:
    found = findings(here, 1, METERS, "--data", str(data))
    assert ("context", "ok", "Meters has the entities Reading, Shift, Mean; queries make Mean") in found
    assert ("topics", "problem", "topic shifts does not exist") in found
    assert ("schedule", "problem", "topic shifts has no rows, so Mean has no sessions") in found


@pytest.mark.parametrize(
    ("arguments", "check", "what"),
    [
        (("tests.cli.declared:Meter",), "context", "module 'tests.cli.declared' has no 'Meter'; did you mean 'Meters'?"),
        (("tests.cli.declare:Meters",), "context", "there is no module 'tests.cli.declare'"),
        (("--data", "missing"), "data folder", "missing does not exist"),
        (("--config", "none.toml"), "configuration", "there is no configuration file none.toml"),
    ],
)
def test_what_is_missing_is_a_problem_not_an_error(here: Here, arguments: tuple[str, ...], check: str, what: str) -> None:
    problems = [(found[0], found[2]) for found in findings(here, 1, *arguments) if found[1] == "problem"]
    assert (check, True) in [(name, text.startswith(what)) for name, text in problems]


def test_a_wrong_configuration_is_a_problem_with_its_line(here: Here) -> None:
    Path("kandle.toml").write_text('validation = "strict"\n\n[log]\npaht = "x"\n')
    ((check, level, what),) = findings(here, 1)
    assert (check, level) == ("configuration", "problem")
    assert what.startswith("kandle.toml, line 4: unknown option 'log.paht'; did you mean 'path'?")


def damage(data: Path) -> None:
    """Other bytes in the place of one batch."""
    log = EmbeddedLog(data)
    log.database.run("UPDATE batch SET blob = zeroblob(length(blob)) WHERE partition = 1")
    log.close()


def test_a_damaged_record_is_found_and_what_a_repair_loses_is_said(here: Here, data: Path) -> None:
    damage(data)
    (found,) = [found for found in findings(here, 1, "--data", str(data)) if found[1] == "problem"]
    assert found == ("log file", "problem", "topic readings, partition 1, offsets 0 to 1: damaged bytes")
    first, lost, *others = here.output("doctor", "--repair", "--data", str(data))
    assert first == f"repaired: 2 batches kept, 1 lost; the damaged file is {data / 'log.db.damaged-1'}"
    assert lost == "lost: topic readings, partition 1, offsets 0 to 1"
    assert not [line for line in others if line.startswith("problem")]
    assert len(here.output("topics", "tail", "readings", "--data", str(data))) == 4


def test_a_repair_says_what_it_did_as_json(here: Here, data: Path) -> None:
    done = json.loads(here.output("doctor", "--repair", "--json", "--data", str(data))[0])
    assert (done["kept"], done["lost"]) == (3, [])
    assert Path(done["backup"]).exists()


def test_a_file_that_is_no_log_at_all_is_a_problem(here: Here, data: Path) -> None:
    (data / "log.db").write_bytes(b"no database" * 1000)
    problems = [found for found in findings(here, 1, "--data", str(data)) if found[1] == "problem"]
    assert [found[0] for found in problems] == ["log file"]


def test_a_repair_of_a_file_that_is_no_log_is_refused_and_changes_nothing(here: Here, data: Path) -> None:
    (data / "log.db").write_bytes(b"no database" * 1000)
    before = sorted(data.iterdir())
    message = here.failure("doctor", "--repair", "--data", str(data))
    assert message.startswith(f"{data / 'log.db'} is not a log of kandle, so there is nothing to repair")
    assert (data / "log.db").read_bytes() == b"no database" * 1000
    assert sorted(data.iterdir()) == before


def test_a_repair_is_refused_while_the_log_is_in_use(here: Here, data: Path) -> None:
    log = EmbeddedLog(data)
    log.wait(0)
    try:
        assert "is in use; stop all processes that use it first" in here.failure("doctor", "--repair", "--data", str(data))
    finally:
        log.close()
    assert here.failure("doctor", "--repair", "--data", "missing") == "there is no log in missing"
