"""A context whose bars are based on sessions."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import Context, EventSet, Key, Precision, TableSet, Timestamp
from kandle import functions as f


@kandle.stream("readings", partitions=2)
@dataclass(frozen=True, slots=True)
class Reading:
    """One value."""

    meter: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    value: Annotated[Decimal, Precision(9, 2)]
    note: str | None


@kandle.table("shifts")
@dataclass(frozen=True, slots=True)
class Shift:
    """When a meter is read."""

    meter: Annotated[str, Key(0)]
    begins: Annotated[datetime, Key(1)]
    ends: datetime


@kandle.stream("means")
@dataclass(frozen=True, slots=True)
class Mean:
    """What a meter said in one bucket."""

    meter: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    greatest: Annotated[Decimal, Precision(9, 2)]


class Meters(Context):
    """Three entities and one query."""

    readings: EventSet[Reading]
    shifts: TableSet[Shift]
    means: EventSet[Mean]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Mean).to_query(
            lambda q: (
                q.from_(Reading)
                .based_on(Shift, open=lambda s: s.begins, close=lambda s: s.ends)
                .tumbling(lambda r: r.at, minutes=(1, 5))
                .group_by(lambda r: r.meter)
                .select(lambda r, w: Mean(meter=r.meter, start=w.start, greatest=f.max(r.value)))
            )
        )
