"""`kandle demo`: a process makes ticks, another makes bars of them, this one shows both and proves that all is right."""

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
from kandle.cli.demo_checks import Check, checks, is_late
from kandle.cli.demo_market import SYMBOLS, Bar, Market, Tick
from kandle.cli.demo_view import Seen, View, view_on
from kandle.cli.output import console, iso_instant, show_line, table_of
from kandle.cli.topics import Tail, whole
from kandle.context.options import Options
from kandle.context.sections import LogOptions
from kandle.errors import OptionsError, StateError, UnknownTopicError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import Log
from kandle.plan.plan import Plan
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND

CONFIG = "kandle.toml"
PATIENCE = 10.0
"""Seconds that a process has to stop by itself."""


class Child:
    """One process; what it says goes into a file of its name."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self._output = folder / f"{name}.log"
        with self._output.open("wb") as output:
            self._process = _started(command, folder, output)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def check(self) -> None:
        """StateError if it has ended by itself."""
        if (code := self._process.poll()) is not None:
            raise StateError(f"the {self.name} process has ended with exit code {code}: {self._last_line()} (see {self._output})")

    def stop(self) -> int:
        """Ask it to end, kill it if it does not, and give its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _last_line(self) -> str:
        lines = self._output.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.removeprefix("kandle: error: ") for line in lines if line.strip()]
        return said[-1] if said else "it said nothing"


def _started(command: Sequence[str], folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process that finds the same modules, but no configuration other than that of the demo."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KANDLE_")}
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in sys.path if each)
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


class Children:
    """All processes of the demo."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Child] = {}

    def start(self, name: str, *command: str) -> None:
        """Start a process: a module and its arguments."""
        self._running[name] = Child(name, command, self._folder)

    def check(self) -> None:
        """StateError if any has ended by itself."""
        for child in self._running.values():
            child.check()

    def stop(self, name: str) -> None:
        """Stop one; StateError unless it ends well."""
        child = self._running.pop(name)
        if (code := child.stop()) != 0:
            raise StateError(f"the {name} process ended with exit code {code} when it was stopped")

    def stop_all(self) -> None:
        """Stop what still runs, whatever it says."""
        for name in list(self._running):
            self._running.pop(name).stop()


@contextmanager
def children(folder: Path) -> Iterator[Children]:
    """Processes that are stopped at the end, also if this one is told to end."""
    found = Children(folder)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield found
    finally:
        found.stop_all()
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def write_config(folder: Path, clock: dict[str, str | float]) -> Path:
    """The configuration file that all processes share."""
    lines = ['context = "kandle.cli.demo_market:Market"', "[log]", f"path = {json.dumps(str(folder.absolute()))}", "[clock]"]
    path = folder / CONFIG
    path.write_text("\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in clock.items())]) + "\n")
    return path


__all__ = ["Bar", "Market", "Tick", "demo_command"]

WRONG = 1
START_PATIENCE, END_PATIENCE = 20 * SECOND, 10 * SECOND
COUNTS = ["expected", "found", "doubled", "gaps", "differing"]
FRAME = 100 * MILLISECOND
"""Microseconds between two pictures."""


def demo_command(
    seconds: Annotated[float, typer.Option("--seconds", min=3, max=3600, help="How long ticks come.")] = 20,
    speed: Annotated[float, typer.Option("--speed", min=0.1, max=50, help="How much faster than real time.")] = 1.0,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder to keep; else a temporary one.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Other numbers, other ticks.")] = 7,
) -> None:
    """Watch bars being made, and see them checked.

    One process makes ticks, another makes bars of them; this one shows both, and checks each final against the ticks.
    """
    if data is not None and has_log(data):
        raise OptionsError(f"{data} holds a log already; name an empty folder with --data")
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
        raise typer.Exit(WRONG)


def _remove(folder: Path, is_temporary: bool) -> None:
    if is_temporary:
        shutil.rmtree(folder, ignore_errors=True)


class _Demo:
    """One run of the demo: clock, log and plan that all its processes share."""

    def __init__(self, target: Console, folder: Path, speed: float) -> None:
        self._target, self._folder = target, folder
        self._timer = SystemClock()
        start = self._timer.now()
        instant = iso_instant(start)
        self._clock: Clock = ScaledClock(start, start, speed)
        self._config = write_config(folder, {"start": instant, "since": instant, "speed": speed})
        (self._plan,) = plans_in(Market(Options(log=LogOptions(path=folder))))
        self._seen = Seen()

    def run(self, seed: int, duration: int) -> bool:
        """Whether all finals came and are right."""
        log = EmbeddedLog(self._folder, self._clock)
        try:
            until, is_complete = self._watched(log, seed, duration)
            ticks = whole(log, self._plan.query.source.topic)
            heartbeats = whole(log, self._plan.heartbeat_topic)
            finals = {bar.timeframe: whole(log, bar.final_topic) for bar in self._plan.emitted}
        finally:
            log.close()
        base = self._plan.base
        late = is_late(ticks, heartbeats, base.timeframe.size, base.grace)
        found = checks(ticks.filter(~late), finals, until)
        show_summary(self._target, found, ticks.height, int(late.sum()))
        return is_complete and all(each.is_right for each in found)

    def _watched(self, log: Log, seed: int, duration: int) -> tuple[int, bool]:
        """Let ticks come for a while: when that was over, by the shared clock, and whether all finals came after it."""
        with children(self._folder) as processes, view_on(self._target) as view:
            show_line(self._target, f"Ticks of {len(SYMBOLS)} symbols, with pauses; bars of {self._timeframes}; grace 0.5 s")
            processes.start("run", "kandle.cli", "run", "--config", str(self._config), "--json")
            processes.start("generator", "kandle.cli.demo_generator", str(self._config), str(seed))
            watch = _Watch(log, self._plan, self._seen, processes, view)
            watch.begin(START_PATIENCE)
            watch.go_on(duration)
            processes.stop("generator")
            until = self._clock.now()
            is_complete = watch.wait_for_finals(until, END_PATIENCE)
            if is_complete:
                processes.stop("run")
        if not is_complete:
            show_line(self._target, f"Not all finals came within {END_PATIENCE / SECOND:.0f} s after the last tick.")
        return until, is_complete

    @property
    def _timeframes(self) -> str:
        return ", ".join(bar.name for bar in self._plan.emitted)


class _Watch:
    """Reads what comes and shows it, as long as all processes run."""

    def __init__(self, log: Log, plan: Plan, seen: Seen, processes: Children, view: View) -> None:
        self._log, self._plan, self._seen, self._processes, self._view = log, plan, seen, processes, view
        self._timer = SystemClock()
        self._began = self._timer.steady()
        self._tail: Tail | None = None

    def begin(self, patience: int) -> None:
        """Wait for the first tick; time counts from there."""
        while not self._seen.ticks:
            self._turn()
            if self._timer.steady() - self._began > patience:
                raise StateError(f"no tick came within {patience / SECOND:.0f} s")
        self._began = self._timer.steady()

    def go_on(self, duration: int) -> None:
        """Show what comes for so many microseconds."""
        while self._timer.steady() - self._began < duration:
            self._turn()

    def wait_for_finals(self, until: int, patience: int) -> bool:
        """Whether each symbol's final of the last bucket that ends by `until` comes in time, in each timeframe."""
        deadline = self._timer.steady() + patience
        bars = self._plan.emitted
        while not all(self._seen.has_finals(bar.name, bar.timeframe.size, until) for bar in bars):
            self._turn()
            if self._timer.steady() > deadline:
                return False
        return True

    def _turn(self) -> None:
        """Read, show, and wait for the next picture."""
        self._processes.check()
        if self._tail is None:
            self._tail = self._opened()
        else:
            self._seen.take(self._log, self._plan.emitted, self._tail.read())
        self._view.show(self._seen, self._timer.steady() - self._began, self._plan.emitted)
        self._timer.pause(FRAME)

    def _opened(self) -> Tail | None:
        """The beginning of all topics, once they are there."""
        topics = [each for bar in self._plan.emitted for each in (bar.live_topic, bar.final_topic)]
        with suppress(UnknownTopicError):
            return Tail.at_start(self._log, [*topics, self._plan.query.source.topic])
        return None


def show_summary(target: Console, found: Sequence[Check], ticks: int, late: int) -> None:
    """The outcome, timeframe by timeframe."""
    left_out = f", {late:,} of them left out: they were written after their bucket was over" if late else ""
    show_line(target, f"\n{ticks:,} ticks{left_out}")
    table = table_of(target, ["timeframe", *COUNTS], set(COUNTS))
    for each in found:
        table.add_row(each.timeframe, *(f"{getattr(each, name):,}" for name in COUNTS))
    target.print(table)
    if all(each.is_right for each in found):
        show_line(
            target, f"Each final came once and is right: {found[0].timeframe} as the ticks say, the others as the finer bars say."
        )
    else:
        show_line(target, "Some finals are missing, doubled or different.")


def show_files(target: Console, folder: Path) -> None:
    """Where everything is, and how to look at it."""
    config = folder / CONFIG
    show_line(target, f"Everything is in {folder}. Try:")
    show_line(target, f"  kandle bars --config {config} Bar 5s ALPHA")
    show_line(target, f"  kandle topics list --config {config}")
