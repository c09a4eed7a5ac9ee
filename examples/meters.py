"""Power meters: average, lowest and highest power and the energy used, per quarter of an hour up to the local month.

kandle backfill examples.meters:Meters --ticks readings.ndjson --out usage --format csv
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import BarSet, Context, EventSet, Gaps, Key, Precision, Timestamp
from kandle import functions as f


@kandle.stream("readings")
@dataclass(frozen=True, slots=True)
class Reading:
    meter: Annotated[int, Key(0)]
    at: Annotated[datetime, Timestamp()]
    watts: Annotated[Decimal, Precision(12, 1)]
    watt_hours: Annotated[Decimal, Precision(12, 3)]
    """Energy since the reading before."""


@kandle.stream("usage")
@dataclass(frozen=True, slots=True)
class Usage:
    meter: Annotated[int, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    end: datetime
    average_watts: Annotated[Decimal | None, Precision(15, 3)]
    lowest_watts: Annotated[Decimal | None, Precision(12, 1)]
    highest_watts: Annotated[Decimal | None, Precision(12, 1)]
    watt_hours: Annotated[Decimal, Precision(18, 3)]
    readings: int


class Meters(Context):
    readings: EventSet[Reading]
    usage: BarSet[Usage]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Usage).to_query(
            lambda q: (
                q.from_(Reading)
                .tumbling(
                    lambda r: r.at,
                    minutes=15,
                    hours=1,
                    days=1,
                    months=1,
                    tz="Europe/Berlin",
                    grace="5m",
                    gaps=Gaps.NULL,
                )
                .group_by(lambda r: r.meter)
                .select(
                    lambda r, w: Usage(
                        meter=r.meter,
                        start=w.start,
                        end=w.end,
                        average_watts=f.avg(r.watts),
                        lowest_watts=f.min(r.watts),
                        highest_watts=f.max(r.watts),
                        watt_hours=f.sum(r.watt_hours),
                        readings=f.count(),
                    )
                )
            )
        )
