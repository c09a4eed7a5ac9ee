"""What the names in a query mean: every column gets one name, and expressions are rewritten to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from tests.ksqldb.simulator.code import Column
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.nodes import Lambda, Name, Node
from tests.ksqldb.simulator.sources import StreamOrTable
from tests.ksqldb.simulator.types import BIGINT, INTEGER, Type

PSEUDO_COLUMNS = {"ROWTIME": BIGINT, "ROWPARTITION": INTEGER, "ROWOFFSET": BIGINT}
WINDOW_BOUNDS = {"WINDOWSTART": BIGINT, "WINDOWEND": BIGINT}


@dataclass(frozen=True, slots=True)
class Names:
    """`meanings` leads from a name as written to the one that stands for it; `columns` has what those are."""

    meanings: Mapping[Name, Name]
    columns: Mapping[Node, Column]


def names_of(sources: Sequence[tuple[str, StreamOrTable]]) -> Names:
    """With one source a column is `x`, with several `alias.x`; a bare name must be one source's alone."""
    if len({alias for alias, _ in sources}) < len(sources):
        raise RefusedError("Each side of the join must have a unique alias")
    meanings: dict[Name, list[Name]] = {}
    columns: dict[Node, Column] = {}
    for alias, source in sources:
        for column, kind in visible(source).items():
            slot = column if len(sources) == 1 else f"{alias}.{column}"
            columns[Name(slot)] = Column(slot, kind)
            meanings.setdefault(Name(column), []).append(Name(slot))
            meanings[Name(column, alias)] = [Name(slot)]
    return Names({name: choices[0] for name, choices in meanings.items() if len(choices) == 1}, columns)


def visible(source: StreamOrTable) -> dict[str, Type]:
    return {**source.types, **PSEUDO_COLUMNS, **(WINDOW_BOUNDS if source.windowed else {})}


def resolved(value: Any, meanings: Mapping[Name, Name]) -> Any:
    """An expression, or anything made of expressions, with every column by its one name."""
    if isinstance(value, Name):
        return meanings.get(value, value)
    if isinstance(value, tuple):
        return tuple(resolved(item, meanings) for item in value)
    if isinstance(value, Lambda):
        meanings = {name: meaning for name, meaning in meanings.items() if name not in map(Name, value.parameters)}
    if isinstance(value, Node):
        return replace(value, **{part.name: resolved(getattr(value, part.name), meanings) for part in fields(value)})
    return value
