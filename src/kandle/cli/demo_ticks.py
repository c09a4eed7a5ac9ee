"""Ticks and sessions for the demo, made by seeded random numbers: the same seed gives the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from kandle.time.timeframe import DAY, EPOCH, HOUR, MINUTE, SECOND, IntArray, from_instant

DAYS = (date(2024, 3, 7), date(2024, 3, 8))
PAUSES_PER_SESSION = 3
LONGEST_PAUSE = 8 * MINUTE
LATE_TICKS = 12
EARLY_TICKS = 20


@dataclass(frozen=True, slots=True)
class Instrument:
    """An instrument: its sessions as offsets from midnight UTC of the trading day, its first value in hundredths."""

    name: str
    sessions: tuple[tuple[int, int], ...]
    value: int
    ticks_per_minute: int


INSTRUMENTS = (
    Instrument("ALPHA", ((9 * HOUR, 12 * HOUR), (13 * HOUR, 17 * HOUR + 30 * MINUTE)), 10_450, 60),
    Instrument("BRAVO", ((9 * HOUR, 12 * HOUR), (13 * HOUR, 17 * HOUR + 30 * MINUTE)), 2_310, 20),
    Instrument("DELTA", ((14 * HOUR + 30 * MINUTE, 21 * HOUR),), 48_200, 90),
    # Over midnight: the session of a day begins on the evening before.
    Instrument("OMEGA", ((-2 * HOUR, 21 * HOUR),), 193_000, 30),
)


def generate(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ticks in the order in which they arrive, a few of them late and a few before the session, and the sessions."""
    random = np.random.default_rng(seed)
    sessions = [
        (instrument, day, midnight(day) + begins, midnight(day) + ends)
        for instrument in INSTRUMENTS
        for day in DAYS
        for begins, ends in instrument.sessions
    ]
    ticks = [_ticks(random, instrument, begins, ends) for instrument, _, begins, ends in sessions]
    return _arrived(random, pl.concat(ticks)), _session_frame(sessions)


def midnight(day: date) -> int:
    """The day's beginning in UTC."""
    return (day - EPOCH.date()).days * DAY


def end_of_ticks() -> datetime:
    """The end of the last session, up to which the ticks are the whole story."""
    return from_instant(midnight(DAYS[-1]) + max(ends for each in INSTRUMENTS for _, ends in each.sessions))


def _ticks(random: np.random.Generator, instrument: Instrument, begins: int, ends: int) -> pl.DataFrame:
    """A random walk around the instrument's value, with pauses in which nothing happens."""
    count = (ends - begins) // MINUTE * instrument.ticks_per_minute
    times = np.sort(random.integers((begins - EARLY_TICKS * SECOND) // 1000, ends // 1000, count)) * 1000
    times = times[~_in_pause(random, times, begins, ends)]
    steps = random.normal(0.0, instrument.value * 0.00005, len(times))
    values = np.maximum(instrument.value + np.cumsum(steps).round().astype(np.int64), 1)
    return pl.DataFrame(
        {
            "time": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "name": pl.Series([instrument.name], dtype=pl.String).new_from_index(0, len(times)),
            "value": values,
            "amount": random.geometric(0.02, len(times)).astype(np.int64),
        }
    )


def _in_pause(random: np.random.Generator, times: IntArray, begins: int, ends: int) -> npt.NDArray[np.bool_]:
    starts = random.integers(begins, ends, PAUSES_PER_SESSION)
    lengths = random.integers(MINUTE, LONGEST_PAUSE, PAUSES_PER_SESSION)
    is_paused: npt.NDArray[np.bool_] = np.any((times[:, None] >= starts) & (times[:, None] < starts + lengths), axis=1)
    return is_paused


def _arrived(random: np.random.Generator, ticks: pl.DataFrame) -> pl.DataFrame:
    """The order of arrival: up to a second late as a rule, and for a few ticks minutes."""
    delays = random.integers(0, SECOND, ticks.height)
    delays[random.choice(ticks.height, LATE_TICKS, replace=False)] = 3 * MINUTE
    arrival = pl.col("time").cast(pl.Int64) + pl.Series(delays)
    hundredths = pl.col("value").cast(pl.Decimal(38, 0)) * pl.lit("0.01").cast(pl.Decimal(38, 2))
    return ticks.sort(arrival).with_columns(value=hundredths.cast(pl.Decimal(18, 2)))


def _session_frame(sessions: list[tuple[Instrument, date, int, int]]) -> pl.DataFrame:
    instant = pl.Datetime("us", "UTC")
    rows = [(instrument.name, day, begins, ends) for instrument, day, begins, ends in sessions]
    schema = {"name": pl.String, "day": pl.Date, "begins": pl.Int64, "ends": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("begins", "ends").cast(instant))
