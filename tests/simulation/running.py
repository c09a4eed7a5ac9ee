"""One history from its seed to what it has come to, and the smallest part of a failing one that still fails."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from kandle.time.timeframe import SECOND
from tests.simulation.declarations import declarations
from tests.simulation.histories import Adding, History, drawn
from tests.simulation.laws import outcome
from tests.simulation.simulation import BrokenLawError, Entry, Simulation, WorldRules

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """What a history has come to.

    Attributes:
        history: The history.
        broken: The laws that it breaks, in words; none if all is right.
        timeline: What has happened.
        counts: How often what has happened.
    """

    history: History
    broken: tuple[str, ...]
    timeline: tuple[Entry, ...]
    counts: Counter[str]

    def text(self) -> str:
        """Return the history as a readable timeline, with what is wrong at its end."""
        history = self.history
        of = f"{history.declared} bars of {history.partitions} partitions" + (", in small commits" if history.small else "")
        lines = [f"seed {history.seed}: {of}"]
        for member in history.members:
            standby = ", with a standby" if member.standby else ""
            lines.append(f"  {member.name}: service {member.service}, clock {member.skew / SECOND:+.3f} s{standby}")
        lines += [f"{entry.at / SECOND:10.3f}  {entry.process:<3} {entry.text}" for entry in self.timeline]
        return "\n".join([*lines, *(f"BROKEN  {law}" for law in self.broken)])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the log of kandle quiet: a simulation has many more failures than lines that anybody reads."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def history_of(seed: int) -> History:
    """Return the history of a seed."""
    return drawn(seed, tuple(declarations()))


def result_of(history: History, rules: WorldRules = "embedded") -> Result:
    """Simulate a history, and check the laws."""
    with quiet():
        simulation = Simulation(history, rules)
        counts = simulation.counts
        try:
            simulation.run()
            counted = outcome(simulation.log, simulation.case)
            broken = counted.broken
            counts.update({"finals": counted.finals, "gaps": counted.gaps, "late": counted.late, "dead letters": counted.letters})
        except BrokenLawError as error:
            broken = (str(error),)
        finally:
            simulation.log.close()
    return Result(history, broken, tuple(simulation.timeline), counts)


def shrunk(result: Result, rules: WorldRules = "embedded", most: int = 200) -> Result:
    """Return the result of the smallest history that still fails, as far as so many attempts lead."""
    smallest = result
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for part in _parts(smallest.history):
            if most <= 0:
                return smallest
            most -= 1
            attempt = result_of(part, rules)
            if attempt.broken:
                smallest, is_smaller = attempt, True
                break
    return smallest


def _parts(history: History) -> Iterator[History]:
    """Yield histories with less in them, the much smaller ones first."""
    for adding in _halves(history.adding):
        yield replace(history, adding=adding)
    for faults in _halves(history.faults):
        yield replace(history, faults=faults)
    yield from (_without_member(history, number) for number in range(len(history.members)) if len(history.members) > 1)
    yield from _plainer(history)


def _plainer(history: History) -> Iterator[History]:
    """Yield histories with fewer events at once, one partition, usual limits, right clocks, no standby."""
    for number, adding_at in enumerate(history.adding):
        for ticks in filter(None, _halves(adding_at.ticks)):
            fewer = Adding(adding_at.at, ticks)
            yield replace(history, adding=(*history.adding[:number], fewer, *history.adding[number + 1 :]))
    if history.partitions > 1:
        yield replace(history, partitions=1)
    if history.small:
        yield replace(history, small=False)
    for number, member in enumerate(history.members):
        if member.standby or member.skew:
            plain = replace(member, standby=False, skew=0)
            yield replace(history, members=(*history.members[:number], plain, *history.members[number + 1 :]))


def _halves(values: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """Yield a sequence without a half, a quarter, ... and at last without one of its values."""
    size = (len(values) + 1) // 2
    while size:
        for begin in range(0, len(values), size):
            fewer = values[:begin] + values[begin + size :]
            yield fewer
        size //= 2


def _without_member(history: History, number: int) -> History:
    members = history.members[:number] + history.members[number + 1 :]
    faults = tuple(
        replace(fault, process=fault.process - (fault.process > number)) for fault in history.faults if fault.process != number
    )
    return replace(history, members=members, faults=faults)
