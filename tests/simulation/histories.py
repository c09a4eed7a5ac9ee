"""A history: what is there at the beginning, what is added, and what goes wrong when. All of it is drawn from a seed.

It is plain data, so that parts of it can be left out to see whether it still fails. What is not in it, the order of steps and
how much time passes between them, is drawn from the same seed while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from kandle.time.timeframe import DAY, MILLISECOND, MINUTE, SECOND

KEYS = ("A", "B", "C", "D", "E")
HUGE = 2**63 - 1
"""With any other event it is more than a bar can hold."""


class Tick(NamedTuple):
    """An event: how far its time is from that of the machine when it is added, in microseconds."""

    key: str
    offset: int
    price: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Adding:
    """Events that are added at once; `at` counts from the beginning, by the steady clock."""

    at: int
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A process: its name, the service that it belongs to, how fast its clock is, and whether it keeps states ready."""

    name: str
    service: str
    skew: int
    standby: bool
    begins: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    Attributes:
        at: When, in microseconds of the steady clock from the beginning.
        kind: What, see `faults.FAULTS`.
        process: The number of the process to which it happens.
        calls: With which of the next calls of the log by that process.
        amount: How long it lasts, or how far a clock jumps, in microseconds.
    """

    at: int
    kind: str
    process: int
    calls: int
    amount: int


@dataclass(frozen=True, slots=True)
class Opening:
    """A session of a key, whose instants count from the time at the beginning, in microseconds."""

    key: str
    number: int
    opens: int
    closes: int


@dataclass(frozen=True, slots=True)
class History:
    """All that is drawn before a simulation begins.

    Attributes:
        seed: The seed.
        declared: The name of the declaration of the bars.
        partitions: How many partitions the events have.
        members: The processes.
        adding: What is added, in the order of time.
        faults: What goes wrong, in the order of time.
        length: When the faults end.
        openings: Sessions of the keys, where the bars have a schedule.
        small: Whether commits and pieces of work are limited to a few finals, and snapshots follow soon.
    """

    seed: int
    declared: str
    partitions: int
    members: tuple[Member, ...]
    adding: tuple[Adding, ...]
    faults: tuple[Fault, ...]
    length: int
    openings: tuple[Opening, ...]
    small: bool


AMOUNTS: dict[str, Callable[[Random], int]] = {
    "kill": lambda r: r.randrange(0, 20 * SECOND),
    "pause": lambda r: r.choice([r.randrange(SECOND), r.randrange(20 * SECOND)]),
    "slow": lambda r: r.randrange(10 * SECOND),
    "stop": lambda r: r.randrange(10 * SECOND),
    "lost": lambda r: 0,
    "full": lambda r: r.randrange(5 * SECOND),
    "jump": lambda r: r.choice([1, -1]) * r.choice([r.randrange(SECOND), r.randrange(MINUTE), r.randrange(20 * MINUTE)]),
    "rows": lambda r: r.randrange(2),
    "away": lambda r: r.choice([r.randrange(2 * MINUTE), r.randrange(15 * MINUTE)]),
}
"""The kinds of faults, and how much of each."""

WEIGHTS = {"kill": 6, "pause": 6, "slow": 4, "stop": 3, "lost": 4, "full": 2, "jump": 2, "rows": 2, "away": 0.4}


def drawn(seed: int, declarations: tuple[str, ...]) -> History:
    """Return the history of a seed.

    Args:
        seed: The seed.
        declarations: The names of the declarations to choose from.
    """
    random = Random(seed)
    length = random.randrange(15, 60) * SECOND
    members = tuple(_member(random, number, length) for number in range(random.choice([1, 2, 2, 3, 3])))
    kinds = random.sample(sorted(WEIGHTS), random.randrange(1, len(WEIGHTS) + 1))
    count = random.choice([0, 1, 2, 3, 4, 6, 8])
    faults = _once_away([_fault(random, kinds, len(members), length) for _ in range(count)])
    sizes = iter(range(1, 1_000_000))
    adding = [_adding(random, length, sizes) for _ in range(random.randrange(3, 25))]
    return History(
        seed,
        random.choice(declarations),
        random.choice([1, 2, 3]),
        members,
        tuple(sorted(adding, key=lambda one: one.at)),
        tuple(sorted(faults, key=lambda one: one.at)),
        length,
        tuple(opening for key in KEYS for opening in _openings(random, key)),
        random.random() < 0.5,
    )


def _openings(random: Random, key: str) -> Iterator[Opening]:
    """Yield sessions of a key with breaks between them; the last one lasts longer than any history."""
    opens = random.randrange(-20, 20) * 5 * SECOND
    for number in range(random.randrange(3)):
        closes = opens + random.randrange(1, 8) * 5 * SECOND
        yield Opening(key, number, opens, closes)
        opens = closes + random.randrange(0, 5) * 5 * SECOND
    yield Opening(key, 9, opens, opens + DAY)


def _member(random: Random, number: int, length: int) -> Member:
    skew = random.choice([0, 0, 0, 1, -1]) * random.choice([100 * MILLISECOND, 3 * SECOND, 30 * SECOND])
    begins = 0 if number == 0 else random.choice([0, 0, random.randrange(length)])
    return Member(f"p{number}", random.choice(["market", "market", "twin"]), skew, random.random() < 0.3, begins)


def _fault(random: Random, kinds: list[str], members: int, length: int) -> Fault:
    kind = random.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
    calls = random.choice([random.randrange(1, 6), random.randrange(1, 40)])
    return Fault(random.randrange(length), kind, random.randrange(members), calls, AMOUNTS[kind](random))


def _once_away(faults: list[Fault]) -> list[Fault]:
    """Leave one absence of all processes, since it takes long to make up for it."""
    away = [fault for fault in faults if fault.kind == "away"]
    return [fault for fault in faults if fault not in away[1:]]


def _adding(random: Random, length: int, sizes: object) -> Adding:
    ticks = tuple(_tick(random, next(sizes)) for _ in range(random.choice([1, 1, 2, 5])))  # type: ignore[call-overload]
    return Adding(random.randrange(length), ticks)


def _tick(random: Random, size: int) -> Tick:
    offset = random.choices(
        [
            -random.randrange(200 * MILLISECOND),
            -random.randrange(3 * SECOND),
            -random.randrange(90 * SECOND),
            random.randrange(20 * SECOND),
        ],
        [10, 4, 1, 1],
    )[0]
    price = None if random.random() < 0.05 else random.randrange(-50, 50)
    is_poison = random.random() < 0.01
    return Tick(random.choice(KEYS), offset, price, HUGE if is_poison else size)
