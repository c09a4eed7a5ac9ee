"""The demo as a user runs it: processes, what they show, and that they are gone afterwards."""

import io
import os
import re
import signal
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from kandle.cli.contexts import plans_in
from kandle.cli.demo import Market, show_summary
from kandle.cli.demo_checks import CheckResult
from kandle.cli.demo_view import DemoState, view_on
from kandle.context.options import Options
from kandle.time.timeframe import SECOND, to_instant
from tests.cli.commands import Processes, failure, run

NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def processes_of(folder: Path) -> list[int]:
    """Processes whose command line names the folder."""
    numbers = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in file.read_bytes():
                numbers.append(int(file.parent.name))
        except OSError:
            continue
    return [number for number in numbers if number != os.getpid()]


def test_the_demo_proves_that_all_is_right_and_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    done = run(tmp_path, "demo", "--seconds", "6", "--speed", "4", "--data", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Ticks of 4 symbols, with pauses; bars of 1s, 5s, 15s")
    assert [line for line in lines if re.match(r" +\d s  \d+ ticks; finals: 1s \d+ \(\d+ gaps\), 5s \d+", line)]
    rows = {line.split()[0]: list(map(int, line.split()[1:])) for line in lines if re.match(r"(1|5|15)s ", line)}
    assert set(rows) == {"1s", "5s", "15s"}
    for expected, written, duplicates, _, wrong in rows.values():
        assert (written, duplicates, wrong) == (expected, 0, 0)
    assert rows["1s"][0] > 60
    assert rows["1s"][3] > 10
    assert rows["15s"][0] >= 3
    assert processes_of(folder) == []

    assert run(tmp_path, "bars", "--config", str(folder / "kandle.toml"), "Bar", "5s", "ALPHA").stdout.count("ALPHA") >= 4
    assert "already contains a log" in failure(tmp_path, "demo", "--data", str(folder))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_processes_and_takes_the_folder_away(
    tmp_path: Path, processes: Processes, number: signal.Signals
) -> None:
    command = processes.start(tmp_path, "demo", TMPDIR=str(tmp_path))
    for _ in range(3):
        command.next_line()
    assert len(processes_of(tmp_path)) == 2
    command.send(number)
    assert command.ended(130)[1] == ""
    assert processes_of(tmp_path) == []
    assert list(tmp_path.glob("kandle-demo-*")) == []


def test_a_process_that_dies_is_one_line_and_the_others_are_stopped(tmp_path: Path, processes: Processes) -> None:
    folder = tmp_path / "demo"
    command = processes.start(tmp_path, "demo", "--data", str(folder))
    for _ in range(2):
        command.next_line()
    (victim,) = [number for number in processes_of(folder) if b"demo_generator" in Path(f"/proc/{number}/cmdline").read_bytes()]
    os.kill(victim, signal.SIGKILL)
    _, errors = command.ended(2)
    what = f"the generator process has ended with exit code -9: it printed nothing (see {folder / 'generator.log'})"
    assert errors == f"kandle: error: {what}\n"
    assert processes_of(folder) == []


def seen() -> DemoState:
    """A live bar, a final and a gap."""
    row = {"symbol": "A", "start": NOON, **dict.fromkeys(("open", "high", "low", "close"), Decimal("1.50")), "ticks": 3}
    state = DemoState(ticks=3, live={("5s", "A"): row, ("1s", "A"): row})
    state._take_finals("1s", iter([row, row | {"ticks": 0}]))
    return state


def shown(target: Console, elapsed: int) -> str:
    (plan,) = plans_in(Market(Options()))
    with view_on(target) as view:
        view.show(seen(), elapsed, plan.emitted)
        view.show(seen(), elapsed, plan.emitted)
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


def test_elsewhere_than_on_a_terminal_there_is_a_line_per_second() -> None:
    assert shown(Console(file=io.StringIO(), width=200), 3 * SECOND // 2).splitlines() == [
        "   2 s  3 ticks; finals: 1s 2 (1 gaps), 5s 0 (0 gaps), 15s 0 (0 gaps); newest: A 1s 12:00:00 close 1.50, a gap"
    ]
    assert shown(Console(file=io.StringIO(), width=200), SECOND // 2) == ""


def test_on_a_terminal_there_are_tables_that_fit_80_columns_and_24_lines() -> None:
    terminal = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    text = shown(terminal, SECOND)
    assert "live bars" in text
    assert "newest finals" in text
    assert "gap" in text
    assert "…" not in text
    assert max(len(line) for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()) <= 80


def test_finals_are_waited_for_from_each_symbols_first_tick_on() -> None:
    noon = to_instant(NOON)
    state = DemoState(first={"A": noon, "B": noon + 6 * SECOND}, ends={("5s", "A"): noon})
    assert state.has_finals("5s", 5 * SECOND, noon + 9 * SECOND)
    assert not state.has_finals("5s", 5 * SECOND, noon + 10 * SECOND)
    assert DemoState().has_finals("5s", 5 * SECOND, noon)


def test_the_summary_says_what_is_wrong() -> None:
    for wrong, outcome in (
        (0, "All finals are correct, each written exactly once"),
        (1, "Some finals are missing, written twice or wrong"),
    ):
        target = Console(file=io.StringIO(), width=200)
        show_summary(target, [CheckResult("1s", 1_000, 1_000, 0, 5, wrong)], 12_345, 2)
        assert isinstance(target.file, io.StringIO)
        text = target.file.getvalue()
        assert "12,345 ticks, 2 of them late: they were written after their bucket had closed" in text
        assert outcome in text
