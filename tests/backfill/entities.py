"""Entities that the tests of readers and writers use."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import kandle
from kandle import Alias, Key, Precision, Timestamp
from kandle.model.entity import entity_model


@kandle.stream("readings")
@dataclass(frozen=True)
class Reading:
    meter: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    value: Annotated[Decimal, Precision(18, 5)]
    note: str | None = None


@kandle.stream("named")
@dataclass(frozen=True)
class Renamed:
    at: Annotated[datetime, Timestamp(), Alias("ts", "time")]
    count: Annotated[int, Alias("n")]


@kandle.stream("everything")
@dataclass(frozen=True)
class Everything:
    key: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    day: date
    flag: bool
    number: int
    ratio: float
    exact: Annotated[Decimal, Precision(38, 10)]
    identity: UUID
    raw: bytes
    labels: dict[str, str]
    text: str | None = None
    maybe: Annotated[Decimal | None, Precision(9, 2)] = None


READING = entity_model(Reading)
RENAMED = entity_model(Renamed)
EVERYTHING = entity_model(Everything)
