"""An application whose topics no other test has: ticks, and their sums by the second."""

# Annotations of these classes are looked up where they are declared, so they must not be texts.
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import kandle
from kandle import Context, EventSet, Key, Precision, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.sets.reading import rows
from tests import waiting

Price = Annotated[Decimal, Precision(18, 6)]


class Application:
    """Entities and context of a test; `partitions` are those of the ticks, `precision` that of their price."""

    def __init__(self, partitions: int = 1, name: str | None = None, price: Any = Price, target: int = 1) -> None:
        self.name = name if name is not None else f"t{uuid4().hex[:8]}"
        self.tick = _tick(f"{self.name}_ticks", partitions, price)
        self.sum = _sum(f"{self.name}_sums", target)
        # The class is made here, so no type checker knows its sets.
        self.context: Any = _context(self.name, self.tick, self.sum)

    @property
    def ticks(self) -> str:
        """The topic of the ticks."""
        return f"{self.name}_ticks"

    @property
    def finals(self) -> str:
        """The topic of the finals."""
        return f"{self.name}_sums_1s_final"

    @property
    def group(self) -> str:
        """The group of the workers."""
        return f"kandle-{self.name}_sums"

    def one(self, number: int, code: str = "a", note: str = "", ahead: int = 0) -> Any:
        """Return a tick of now, or of so many seconds later."""
        return self.tick(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=ahead), code, number, Decimal(number), note)


def _tick(topic: str, partitions: int, kind: Any) -> type:
    @kandle.stream(topic, partitions=partitions)
    @dataclass(frozen=True)
    class Tick:
        time: Annotated[datetime, Timestamp()]
        code: Annotated[str, Key(0)]
        number: int
        price: kind
        note: str = ""

    return Tick


def _sum(topic: str, partitions: int) -> type:
    @kandle.stream(topic, partitions=partitions)
    @dataclass(frozen=True)
    class Sum:
        code: Annotated[str, Key(0)]
        start: Annotated[datetime, Timestamp(), Key(1)]
        number: int
        ticks: int
        note: str

    return Sum


def _context(name: str, tick: type, sums: type) -> type[Context]:
    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(sums).to_query(
            lambda q: (
                q.from_(tick)
                .tumbling(lambda t: t.time, seconds=1, grace="3s", gaps=kandle.Gaps.SKIP)
                .group_by(lambda t: t.code)
                .select(
                    lambda t, w: sums(code=t.code, start=w.start, number=f.sum(t.number), ticks=f.count(), note=f.last(t.note))
                )
            )
        )

    sets = {"ticks": EventSet[tick], "sums": EventSet[sums]}  # type: ignore[valid-type]
    return type(f"App{name}", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


def settings(bootstrap: str, **kafka: Any) -> dict[str, Any]:
    """Options of a context on this cluster, with a name for its process."""
    return {"log": {"kind": "kafka"}, "kafka": {"bootstrap": bootstrap, **kafka}, "runtime": {"instance": "one"}}


def wait_until(done: Callable[[], object], market: Context | None = None) -> None:
    """Look again and again until it is done; a worker must not fail meanwhile."""

    def check() -> None:
        if market is not None and market.problem is not None:
            raise AssertionError("the worker has failed") from market.problem

    waiting.wait_until(done, seen=lambda: None if market is None else market.health(), check=check, pause=0.05)


def summed(market: Context, app: Application) -> tuple[int, int]:
    """Return the sum of the numbers and the count of the ticks in all finals."""
    frames = list(rows(state_of(market).log, app.finals))
    return sum(int(frame["number"].sum()) for frame in frames), sum(int(frame["ticks"].sum()) for frame in frames)
