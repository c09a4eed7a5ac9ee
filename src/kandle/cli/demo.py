"""The command `kandle demo`: one process writes ticks, another makes bars; this one shows both and checks the result.

generator ──ticks──▶ log ──▶ kandle run ──bars──▶ log ──▶ this process: tables, then the check
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Annotated

import typer
from rich.console import Console

from kandle.cli.contexts import has_log, plans_in
from kandle.cli.demo_checks import CheckResult, check_finals, is_late
from kandle.cli.demo_market import SYMBOLS, Bar, Market, Tick
from kandle.cli.demo_view import DemoState, View, view_on
from kandle.cli.output import console, iso_instant, show_line, table_of
from kandle.cli.topics import Tail, all_records
from kandle.context.adapters import embedded_log
from kandle.context.options import Options
from kandle.context.sections import LogOptions
from kandle.errors import OptionsError, StateError, UnknownTopicError
from kandle.log.port import Log
from kandle.plan.plan import Plan
from kandle.plan.query_topics import DEFAULT_HEARTBEATS
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND

CONFIG = "kandle.toml"
STOP_TIMEOUT = 10.0
"""Seconds that a process has to stop after SIGTERM before it is killed."""


class ChildProcess:
    """A process of the demo; its output goes to a file of the same name."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self._output = folder / f"{name}.log"
        with self._output.open("wb") as output:
            self._process = _start_process(command, folder, output)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise StateError if the process has ended by itself."""
        if (code := self._process.poll()) is not None:
            raise StateError(f"the {self.name} process has ended with exit code {code}: {self._last_line()} (see {self._output})")

    def stop(self) -> int:
        """Stop the process, with SIGKILL if SIGTERM has no effect, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _last_line(self) -> str:
        lines = self._output.read_text(encoding="utf-8", errors="replace").split("\n")
        messages = [line.removeprefix("kandle: error: ") for line in lines if line.strip()]
        return messages[-1] if messages else "it printed nothing"


def _start_process(command: Sequence[str], folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process that finds the same modules, but no configuration other than the one of the demo."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KANDLE_")}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path if folder)
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


class ChildProcesses:
    """The processes of the demo, by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, ChildProcess] = {}

    def start(self, name: str, *command: str) -> None:
        """Start a process that runs a module with arguments."""
        self._running[name] = ChildProcess(name, command, self._folder)

    def check(self) -> None:
        """Raise StateError if one of them has ended by itself."""
        for child in self._running.values():
            child.check()

    def stop(self, name: str) -> None:
        """Stop one of them; raise StateError unless its exit code is 0."""
        child = self._running.pop(name)
        if (code := child.stop()) != 0:
            raise StateError(f"the {name} process ended with exit code {code} when it was stopped")

    def stop_all(self) -> None:
        """Stop those that still run and ignore their exit codes."""
        for name in list(self._running):
            self._running.pop(name).stop()


@contextmanager
def child_processes(folder: Path) -> Iterator[ChildProcesses]:
    """Give an empty set of processes; stop them all at the end, also after SIGTERM."""
    processes = ChildProcesses(folder)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield processes
    finally:
        processes.stop_all()
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def write_config(folder: Path, clock: dict[str, str | float]) -> Path:
    """Write the configuration file that all processes of the demo share, and return its path."""
    lines = ['context = "kandle.cli.demo_market:Market"', "[log]", f"path = {json.dumps(str(folder.absolute()))}", "[clock]"]
    path = folder / CONFIG
    path.write_text("\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in clock.items())]) + "\n")
    return path


__all__ = ["Bar", "Market", "Tick", "demo_command"]

CHECK_FAILED = 1
"""Exit code if a final is missing, doubled or wrong."""

START_TIMEOUT, END_TIMEOUT = 20 * SECOND, 10 * SECOND
COUNTS = ["expected", "written", "duplicates", "gaps", "wrong"]
REDRAW_INTERVAL = 100 * MILLISECOND
"""Microseconds between two updates of the view."""


def demo_command(
    seconds: Annotated[float, typer.Option("--seconds", min=3, max=3600, help="How long ticks are written.")] = 20,
    speed: Annotated[float, typer.Option("--speed", min=0.1, max=50, help="How much faster than real time.")] = 1.0,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the log [default: temporary].")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random ticks.")] = 7,
) -> None:
    """Watch live bars being made and checked.

    One process writes random ticks, another makes bars of them. This one shows both, and compares each final with the ticks.

    Example: kandle demo --seconds 60 --speed 5
    """
    if data is not None and has_log(data):
        raise OptionsError(f"{data} already contains a log; name an empty folder with --data")
    folder = Path(tempfile.mkdtemp(prefix="kandle-demo-")) if data is None else data.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    target = console()
    is_temporary = data is None and not keep
    try:
        is_right = _Demo(target, folder, speed).run(seed, round(seconds * SECOND))
    except KeyboardInterrupt:
        _remove(folder, is_temporary)
        raise
    if is_right:
        _remove(folder, is_temporary)
    if folder.exists():
        show_files(target, folder)
    if not is_right:
        raise typer.Exit(CHECK_FAILED)


def _remove(folder: Path, is_temporary: bool) -> None:
    if is_temporary:
        shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    """A run of the demo: the clock, log and plan that its processes share."""

    def __init__(self, target: Console, folder: Path, speed: float) -> None:
        self._target, self._folder = target, folder
        self._timer = SystemClock()
        start = self._timer.now()
        instant = iso_instant(start)
        self._clock: Clock = ScaledClock(start, start, speed)
        self._config = write_config(folder, {"start": instant, "since": instant, "speed": speed})
        (self._plan,) = plans_in(Market(Options(log=LogOptions(path=folder))))
        self._state = DemoState()

    def run(self, seed: int, duration: int) -> bool:
        """Run the demo and return whether all finals arrived and are correct."""
        log = embedded_log(self._folder, self._clock)
        try:
            until, is_complete = self._watch(log, seed, duration)
            ticks = all_records(log, self._plan.query.source.topic)
            heartbeats = all_records(log, DEFAULT_HEARTBEATS.name(self._plan))
            finals = {bar.timeframe: all_records(log, bar.final_topic) for bar in self._plan.emitted}
        finally:
            log.close()
        base = self._plan.base
        late = is_late(ticks, heartbeats, base.timeframe.size, base.grace)
        results = check_finals(ticks.filter(~late), finals, until)
        show_summary(self._target, results, ticks.height, int(late.sum()))
        return is_complete and all(result.is_right for result in results)

    def _watch(self, log: Log, seed: int, duration: int) -> tuple[int, bool]:
        """Show ticks and bars for a while.

        Returns:
            The end of the ticks by the shared clock, and whether all finals up to it arrived.
        """
        with child_processes(self._folder) as processes, view_on(self._target) as view:
            show_line(self._target, f"Ticks of {len(SYMBOLS)} symbols, with pauses; bars of {self._timeframes}; grace 0.5 s")
            processes.start("run", "kandle.cli", "run", "--config", str(self._config), "--json")
            processes.start("generator", "kandle.cli.demo_generator", str(self._config), str(seed))
            watch = _Watch(log, self._plan, self._state, processes, view)
            watch.begin(START_TIMEOUT)
            watch.show_for(duration)
            processes.stop("generator")
            until = self._clock.now()
            is_complete = watch.wait_for_finals(until, END_TIMEOUT)
            if is_complete:
                processes.stop("run")
        if not is_complete:
            show_line(self._target, f"Not all finals arrived within {END_TIMEOUT / SECOND:.0f} s of the last tick.")
        return until, is_complete

    @property
    def _timeframes(self) -> str:
        return ", ".join(bar.name for bar in self._plan.emitted)


class _Watch:
    """Reads new records and shows them while all processes run."""

    def __init__(self, log: Log, plan: Plan, state: DemoState, processes: ChildProcesses, view: View) -> None:
        self._log, self._plan, self._state, self._processes, self._view = log, plan, state, processes, view
        self._timer = SystemClock()
        self._began = self._timer.steady()
        self._tail: Tail | None = None

    def begin(self, patience: int) -> None:
        """Wait for the first tick, and measure time from there."""
        while not self._state.ticks:
            self._turn()
            if self._timer.steady() - self._began > patience:
                raise StateError(f"no tick arrived within {patience / SECOND:.0f} s")
        self._began = self._timer.steady()

    def show_for(self, duration: int) -> None:
        """Show new records for so many microseconds."""
        while self._timer.steady() - self._began < duration:
            self._turn()

    def wait_for_finals(self, until: int, patience: int) -> bool:
        """Return whether the final of the last bucket that ends by `until` arrives in time for each symbol and timeframe."""
        deadline = self._timer.steady() + patience
        bars = self._plan.emitted
        while not all(self._state.has_finals(bar.name, bar.timeframe.size, until) for bar in bars):
            self._turn()
            if self._timer.steady() > deadline:
                return False
        return True

    def _turn(self) -> None:
        """Read new records, show them, and wait for the next update."""
        self._processes.check()
        if self._tail is None:
            self._tail = self._open_tail()
        else:
            self._state.take(self._log, self._plan.emitted, self._tail.read())
        self._view.show(self._state, self._timer.steady() - self._began, self._plan.emitted)
        self._timer.pause(REDRAW_INTERVAL)

    def _open_tail(self) -> Tail | None:
        """Return a reader from the beginning of all topics, or None while they do not exist yet."""
        topics = [topic for bar in self._plan.emitted for topic in (bar.live_topic, bar.final_topic)]
        with suppress(UnknownTopicError):
            return Tail.at_start(self._log, [*topics, self._plan.query.source.topic])
        return None


def show_summary(target: Console, results: Sequence[CheckResult], ticks: int, late: int) -> None:
    """Print the outcome for each timeframe."""
    left_out = f", {late:,} of them late: they were written after their bucket had closed" if late else ""
    show_line(target, f"\n{ticks:,} ticks{left_out}")
    table = table_of(target, ["timeframe", *COUNTS], set(COUNTS))
    for result in results:
        table.add_row(result.timeframe, *(f"{getattr(result, name):,}" for name in COUNTS))
    target.print(table)
    if all(result.is_right for result in results):
        show_line(
            target,
            f"All finals are correct, each written exactly once: {results[0].timeframe} compared with the ticks, "
            "the other timeframes with the finer bars.",
        )
    else:
        show_line(target, "Some finals are missing, written twice or wrong.")


def show_files(target: Console, folder: Path) -> None:
    """Print where the log is, and commands that read it."""
    config = folder / CONFIG
    show_line(target, f"The log is in {folder}. Try:")
    show_line(target, f"  kandle bars --config {config} Bar 5s ALPHA")
    show_line(target, f"  kandle topics list --config {config}")
