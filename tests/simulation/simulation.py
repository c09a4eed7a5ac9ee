"""The scheduler: one thread steps all processes of a history, in an order and at times that are drawn from its seed.

A process that is paused in the middle of a call stays where it is on the stack, and the others are stepped on top of it:

    p0 worker: commit ─┐ paused for 8 s                      ┌─ done: FencedError
                       └ p1 worker, p1 heartbeats, p1 lease ─┘

So every call of the log is a point at which anything else may happen, and no step has to be cut into pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any, Literal

import polars as pl
import pytest

from kandle.context.adapters import embedded_log
from kandle.errors import UnavailableError
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Records, Write
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.topics import entity_topic
from kandle.serde.keys import partition_numbers
from kandle.time.timeframe import MILLISECOND, SECOND, from_instant
from tests.laws.reference import Session
from tests.runtime.declarations import Hours
from tests.simulation.declarations import EVENTS, Declaration, Tick, declarations
from tests.simulation.histories import KEYS, Fault, History
from tests.simulation.histories import Tick as Added
from tests.simulation.laws import Case
from tests.simulation.logs.state import Call
from tests.simulation.logs.world import World
from tests.simulation.machine import MachineClock
from tests.simulation.process import WRITING, Armed, Killed, Process

WorldRules = Literal["embedded", "kafka", "sqlite"]

START = 1_709_908_200_000_000
"""Friday, 2024-03-08 14:30 UTC."""

NEWEST_ROWS = 8

NOBODY = "Z"
"""A key without events, of which there are rows in the schedule that are wrong."""

DEEPEST = 3
"""How many processes may be paused in the middle of a call at the same time."""

PROGRESS = 90 * SECOND
"""Once faults have ended, so much simulated time later everything that is over is closed."""

SMALL = {
    "kandle.runtime.tasks.FINALS_AT_ONCE": 7,
    "kandle.runtime.tasks.FINALS_PER_COMMIT": 10,
    "kandle.runtime.tasks.EVENTS_AT_ONCE": 3,
    "kandle.runtime.state.LEAST_CHANGES": 4_000,
    "kandle.runtime.state.LEAST_CLOSED": 60,
    "kandle.runtime.standby.ROWS_AT_ONCE": 2,
}
"""Limits that are made so small that a short history reaches them."""


class BrokenLawError(AssertionError):
    """What a history shows that must not be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the timeline: when, by the steady clock, by which process, and what."""

    at: int
    process: str
    text: str


class Simulation:
    """One history, as it takes place.

    Args:
        history: The history.
        rules: The rules of the log: those of the embedded log or of a cluster in memory, or `sqlite`, the embedded log itself.
    """

    def __init__(self, history: History, rules: WorldRules = "embedded") -> None:
        self.history = history
        self.random = Random(f"run {history.seed}")
        self.clock = MachineClock(START)
        self._world = None if rules == "sqlite" else World(rules, self.random, self.clock)
        if self._world is not None:
            self._world.on_call(self._called)
        self.log: Log = embedded_log(None, self.clock) if self._world is None else self._world.connect("observer")
        self.declaration: Declaration = declarations()[history.declared]
        self.processes = [Process(self, member, number) for number, member in enumerate(history.members)]
        self.timeline: list[Entry] = []
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.in_time: set[tuple[str, int, int]] = set()
        """Key, time and size of the events that were added before their bucket was over."""
        self._adding = list(history.adding)
        self._faults = list(history.faults)
        self._full_until = 0
        self._depth = 0
        self._is_healing = False
        self._partitions = partition_numbers(pl.DataFrame({"symbol": KEYS}), history.partitions).tolist()
        self._ensure_topics()

    def _ensure_topics(self) -> None:
        source = self.declaration.plan.query.source
        self.log.ensure(replace(entity_topic(source), partitions=self.history.partitions))
        if self.declaration.plan.query.schedule is not None:
            self.log.ensure(entity_topic(entity_model(Hours)))
            self._add_rows([_row(one.key, one.number, one.opens, one.closes) for one in self.history.openings])

    @property
    def case(self) -> Case:
        """What the laws go by."""
        sessions = None
        if self.declaration.is_scheduled:
            spans = [(one.key, START + one.opens, START + one.closes) for one in self.history.openings]
            sessions = [Session((key,), from_instant(opens), from_instant(closes)) for key, opens, closes in spans]
        return Case(self.declaration, self.in_time, sessions)

    def connect(self, process: Process) -> Any:
        """Return the log for a process that starts."""
        return self.log if self._world is None else self._world.connect(process.member.name, process.clock)

    def _called(self, call: Call) -> None:
        """Have happen what happens in the middle of a call, where some of it is written."""
        process = next((one for one in self.processes if one.member.name == call.process), None)
        if process is None or call.stage != "written" or process.log is None:
            return
        life = process.life
        self.interrupted(process, call.name, process.struck(call.name), "in the middle of")
        process.check_life(life)

    def note(self, process: Process | None, text: str) -> None:
        """Add a line to the timeline."""
        self.timeline.append(Entry(self.clock.steady(), "" if process is None else process.member.name, text))

    def failed(self, process: Process, part: str, error: BaseException | None) -> None:
        """Note that a query has ended by an error, which must not be."""
        self.note(process, f"{part} failed: {error!r}")
        self.problems.append(f"{process.member.name} has failed: {error!r}")

    def run(self) -> None:
        """Have everything take place, until all is closed or must have been.

        Raises:
            BrokenLawError: It did not come to an end in time, or a query has failed.
        """
        with _limited(self.history.small):
            while self.clock.steady() < self.history.length or self._adding or self._faults:
                self._checked_turn()
            self._heal()
            deadline = self.clock.steady() + PROGRESS
            until = self.clock.now()
            while not self._is_settled(until):
                if self.clock.steady() > deadline:
                    raise BrokenLawError(f"not everything is closed: {self._state()}")
                self._checked_turn()
            for process in self.processes:
                self._guarded(process, "stop", process.stop)
        if self.problems:
            raise BrokenLawError("; ".join(self.problems))

    def _checked_turn(self) -> None:
        self._turn()
        if self.problems:
            raise BrokenLawError("; ".join(self.problems))

    def _heal(self) -> None:
        """End all faults: from here on everything must close within a bound."""
        self._is_healing, self._full_until = True, 0
        for process in self.processes:
            process.armed, process.paused_until = [], 0
            process.go_on()
            if process.starts_at is not None:
                process.starts_at = min(process.starts_at, self.clock.steady())
        # Whoever waits for a clock that was set back waits until it shows the old time again.
        self.clock.jump(self.clock.highest - self.clock.now())
        self.note(None, "faults end")

    def _turn(self) -> None:
        """Let a little time pass, have happen what is due, and step some parts of some processes."""
        wait = self.random.choice([MILLISECOND, 50 * MILLISECOND, 300 * MILLISECOND, SECOND, SECOND])
        self.clock.advance(self.random.randrange(1, wait + 1))
        self._happen()
        parts = [(process, name) for process in self.processes for name in process.parts()]
        self.random.shuffle(parts)
        for process, name in parts:
            # A part may have ended with its process, or be in the middle of a step of its own.
            step = process.parts().get(name) if self.random.random() < 0.8 else None
            if step is not None:
                process.step(name, step)

    def _happen(self) -> None:
        now = self.clock.steady()
        while self._adding and self._adding[0].at <= now:
            self._add(self._adding.pop(0).ticks)
        while self._faults and self._faults[0].at <= now:
            self._begin(self._faults.pop(0))

    def _add(self, ticks: tuple[Added, ...]) -> None:
        """Append events, as a producer does whose answers are never lost."""
        now = self.clock.now()
        rows: dict[int, list[Tick]] = {}
        for tick in ticks:
            number = self._partitions[KEYS.index(tick.key)]
            time = now + tick.offset
            price = None if tick.price is None else Decimal(tick.price)
            rows.setdefault(number, []).append(Tick(from_instant(time), tick.key, price, tick.size))
            end = time // self.declaration.base * self.declaration.base + self.declaration.base + self.declaration.grace
            if self.clock.highest < end:
                self.in_time.add((tick.key, time, tick.size))
        writes = [Write(EVENTS, number, Records(_frame(of))) for number, of in sorted(rows.items())]
        self.log.append(writes)
        self.counts["events"] += len(ticks)
        words = ", ".join(f"{tick.key} {from_instant(now + tick.offset):%H:%M:%S.%f}"[:-3] for tick in ticks)
        self.note(None, f"added at {from_instant(now):%H:%M:%S.%f}"[:-3] + f": {words}")

    def _add_rows(self, rows: list[Hours], *, gone: bool = False) -> None:
        """Append rows of the schedule, or tombstones of them."""
        frame = mapping(entity_model(Hours)).to_frame(rows)
        self.log.append(
            [Write(entity_model(Hours).topic, 0, Records(frame, tombstones=pl.Series([True] * len(rows)) if gone else None))]
        )

    def _begin(self, fault: Fault) -> None:
        """Have a fault begin, or arm it to strike with one of the next calls."""
        self.counts[fault.kind] += 1
        process = self.processes[fault.process]
        now = self.clock.steady()
        match fault.kind:
            case "full":
                self._full_until = now + fault.amount
                self.note(None, f"the disk is full for {_seconds(fault.amount)}")
            case "rows" if self.declaration.is_scheduled:
                self.note(None, "a row of the schedule is removed" if fault.amount else "a row of the schedule is wrong")
                self._add_rows([_row(NOBODY, 0, SECOND, 0)], gone=bool(fault.amount))
            case "rows":
                pass
            case "jump":
                self.clock.jump(fault.amount)
                self.note(None, f"the clock jumps by {_seconds(fault.amount)}")
            case "away":
                self.note(None, f"all processes are away for {_seconds(fault.amount)}")
                for member in self.processes:
                    member.kill(now + fault.amount)
                self.clock.advance(fault.amount)
            case "stop":
                if process.is_alive and not process.busy:
                    self.note(process, f"stops in order, starts again after {_seconds(fault.amount)}")
                    self._guarded(process, "stop", process.stop)
                    process.kill(now + fault.amount)
            case _:
                process.armed.append(Armed(fault.kind, fault.calls, fault.amount, self.random.random() < 0.5))

    def _guarded(self, process: Process, name: str, function: Callable[[], object]) -> None:
        try:
            function()
        except (Killed, UnavailableError):
            return
        except Exception as error:
            self.failed(process, name, error)

    def interrupted(self, process: Process, call: str, faults: list[Armed], when: str) -> None:
        """Have happen what happens before or after a call of the log.

        Args:
            process: The process that calls.
            call: The name of the method.
            faults: Faults that strike with this call.
            when: Whether the call was done: `before` or `after`.

        Raises:
            Killed: The process ends here.
            UnavailableError: The log cannot be written, or its answer is lost.
        """
        if when == "before" and call in WRITING and self.clock.steady() < self._full_until:
            raise UnavailableError("the disk is full")
        for fault in faults:
            if when == "in the middle of" or fault.is_after == (when == "after") or fault.kind == "lost":
                self._strike(process, call, fault, when)
        if not self._is_healing and self.random.random() < 0.01 and self._depth < DEEPEST:
            # Another process, or another thread of this one, goes on in between.
            self._pass(self.random.randrange(20 * MILLISECOND))

    def _strike(self, process: Process, call: str, fault: Armed, when: str) -> None:
        now = self.clock.steady()
        match fault.kind:
            case "kill":
                self.note(process, f"killed {when} {call}, starts again after {_seconds(fault.amount)}")
                process.kill(now + fault.amount)
                raise Killed
            case "pause":
                self.note(process, f"paused {when} {call} for {_seconds(fault.amount)}")
                process.paused_until, process.is_doubtful = now + fault.amount, True
                process.stand_still()
                self._pass(fault.amount)
                process.go_on()
                self.note(process, "goes on")
            case "slow":
                self.note(process, f"is slow: {call} takes {_seconds(fault.amount)}")
                self._pass(fault.amount)
            case "lost" if when != "before":
                self.note(process, f"{call} is done, but its answer is lost")
                raise UnavailableError("the answer is lost")

    def _pass(self, duration: int) -> None:
        """Have the others go on for a while, in the middle of a call."""
        until = self.clock.steady() + duration
        if self._depth >= DEEPEST:
            self.clock.advance(duration)
            return
        self._depth += 1
        try:
            while self.clock.steady() < until:
                self._turn()
        finally:
            self._depth -= 1

    def _is_settled(self, until: int) -> bool:
        """Return whether everything that was over at an instant is closed."""
        if any(process.query is None for process in self.processes):
            return False
        topic = self.processes[0].query.topics.heartbeats  # type: ignore[union-attr]
        ends = self.log.ends(topic)
        newest = min((self._newest(topic, number, end) for number, end in enumerate(ends)), default=0)
        if newest < until:
            return False
        owned = sorted(number for process in self.processes for number in process.query.worker.partitions)  # type: ignore[union-attr]
        return owned == list(range(len(ends))) and all(
            process.query.worker.lag() == 0 and not process.query.worker._tasks.is_dirty  # type: ignore[union-attr]
            for process in self.processes
        )

    def _newest(self, topic: str, number: int, end: int) -> int:
        # The last offsets may be those of the ends of transactions.
        batches = self.log.read(TopicPartition(topic, number), max(0, end - NEWEST_ROWS), NEWEST_ROWS) if end else []
        return int(batches[-1].records.frame["instant"].to_physical()[-1]) if batches else 0

    def _state(self) -> str:
        return ", ".join(
            f"{process.member.name} "
            + ("is down" if process.query is None else f"{process.query.worker.partitions} lag {process.query.worker.lag()}")
            for process in self.processes
        )


def _row(key: str, number: int, opens: int, closes: int) -> Hours:
    return Hours(key, date(2024, 1, 1 + number), from_instant(START + opens), from_instant(START + closes))


def _frame(ticks: list[Tick]) -> pl.DataFrame:
    return mapping(entity_model(Tick)).to_frame(ticks)


def _seconds(duration: int) -> str:
    return f"{duration / SECOND:.3f} s"


@contextmanager
def _limited(small: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items() if small else ():
            patch.setattr(name, value)
        yield
