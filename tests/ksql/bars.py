"""The simplest query over the rows: bars of a minute that count."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import kandle
from kandle import Context, EventSet, Gaps, Key, ModelBuilder, Timestamp
from kandle import functions as f
from tests.ksql.rows import Row


@kandle.stream("bars")
@dataclass(frozen=True)
class Bar:
    k: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    x: int


class Market(Context):
    rows: EventSet[Row]
    bars: EventSet[Bar]

    def on_model_creating(self, model: ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Row)
                .tumbling(lambda t: t.time, minutes=1, gaps=Gaps.CARRY)
                .group_by(lambda t: t.k)
                .select(lambda t, w: Bar(k=t.k, start=w.start, x=f.count()))
            )
        )


BASE = Market.model().queries[Bar]
