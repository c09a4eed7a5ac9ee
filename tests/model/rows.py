"""An entity with a field of every type."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import Alias, DatetimeFormat, Key, MaxLength, Precision, Timestamp
from kandle.model.entity import entity_model


@kandle.stream("rows")
@dataclass(frozen=True)
class Row:
    name: Annotated[str, Key(0), MaxLength(6)]
    at: Annotated[datetime, Timestamp()]
    amount: Annotated[Decimal | None, Precision(18, 5), Alias("value")] = None
    wide: Annotated[Decimal | None, Precision(38, 10)] = None
    whole: int | None = None
    real: float | None = None
    flag: bool | None = None
    day: date | None = None
    identity: uuid.UUID | None = None
    note: str | None = None
    epoch: Annotated[datetime | None, DatetimeFormat("epoch_ms")] = None
    german: Annotated[datetime | None, DatetimeFormat("%d.%m.%Y %H:%M")] = None


MODEL = entity_model(Row)
