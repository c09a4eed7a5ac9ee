"""An entity whose key has a part of each type."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import kandle
from kandle import Key, Precision, Timestamp


@kandle.stream("keyed")
@dataclass(frozen=True, slots=True)
class Keyed:
    """Bars of a key with many parts."""

    text: Annotated[str, Key(0)]
    number: Annotated[int, Key(1)]
    flag: Annotated[bool, Key(2)]
    day: Annotated[date, Key(3)]
    amount: Annotated[Decimal, Precision(9, 2), Key(4)]
    identity: Annotated[UUID, Key(5)]
    begins: Annotated[datetime, Timestamp(), Key(6)]
