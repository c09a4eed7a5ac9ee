"""Entity sets: the typed members of a context, one per entity or per entity and timeframe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from kandle.model.entity import EntityModel
from kandle.time.timeframe import Timeframe

if TYPE_CHECKING:
    from kandle.context.context import Context

T = TypeVar("T")
Access = Literal["read_write", "read_only", "write_only"]


@dataclass(frozen=True, slots=True)
class EntitySet(Generic[T]):
    """The records of an entity in a context; `timeframe` is set for bars of one timeframe."""

    context: Context
    entity: EntityModel
    timeframe: Timeframe | None = None
    access: Access = "read_write"

    @property
    def can_read(self) -> bool:
        return self.access != "write_only"

    @property
    def can_write(self) -> bool:
        return self.access != "read_only"


class EventSet(EntitySet[T]):
    """The events of a stream."""

    __slots__ = ()


class TableSet(EntitySet[T]):
    """The rows of a table, the newest of each key."""

    __slots__ = ()


SETS: dict[str, Any] = {"stream": EventSet, "table": TableSet}
"""Which set goes with which kind of entity."""
