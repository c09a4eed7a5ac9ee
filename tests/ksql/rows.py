"""Rows with fields of every type, some of which may be NULL, for the engine and for the simulated ksqlDB."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

import kandle
from kandle import Key, Precision, Timestamp
from kandle.engine.expressions import compile_expression, evaluate
from kandle.ksql.types import column_type
from kandle.model.columns import logical_decimal
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.model.types import DecimalType
from kandle.query.nodes import AnyNode
from kandle.query.recording import RecordingRow, node_of
from tests.ksqldb.simulator import types
from tests.ksqldb.simulator.types import Type


@kandle.stream("rows")
@dataclass(frozen=True)
class Row:
    k: Annotated[str, Key(0)] = "key"
    time: Annotated[datetime, Timestamp()] = datetime(2026, 3, 8, 6, 30, 15, 250_000, UTC)
    i: int = 7
    j: int | None = -2
    d: float = 2.5
    e: float | None = -0.5
    n: Annotated[Decimal, Precision(18, 6)] = Decimal("10.75")
    m: Annotated[Decimal | None, Precision(10, 2)] = Decimal("3.25")
    wide: Annotated[Decimal | None, Precision(38, 10)] = Decimal("12345678901234567890.0123456789")
    s: str = "Hello"
    u: str | None = "a,b"
    b: bool = True
    c: bool | None = False
    t: datetime | None = datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)
    day: date | None = date(2026, 3, 8)
    w: bytes | None = b"\xff\x00"
    g: uuid.UUID | None = None


MODEL = entity_model(Row)
ROW: Any = RecordingRow(MODEL)
_NULLS: dict[str, Any] = {field.name: None for field in MODEL.fields if field.nullable}
NOTHING = Row(**_NULLS)
"""A row with NULL in every field that may be NULL."""


def server_type(kind: object) -> Type:
    """Return a type of the compiler as a type of the simulated server."""
    text = str(kind)
    if text.startswith("ARRAY<"):
        return types.array(server_type(text.removeprefix("ARRAY<").removesuffix(">")))
    if text.startswith("DECIMAL("):
        precision, scale = text.removeprefix("DECIMAL(").removesuffix(")").split(",")
        return types.decimal(int(precision), int(scale))
    return types.BASE_TYPES[text]


COLUMNS = {field.name: server_type(column_type(field.type)) for field in MODEL.fields}


def node(expression: Any) -> AnyNode:
    return node_of(expression)


def engine_values(expression: AnyNode, rows: Sequence[Row]) -> list[Any]:
    """Return what kandle's engine computes for the rows, decimals as decimals."""
    frame = mapping(MODEL).to_frame(rows)
    column = evaluate(frame, [compile_expression(expression).alias("x")]).to_series()
    column = logical_decimal(column, expression.type) if isinstance(expression.type, DecimalType) else column
    values = column.to_list()
    return values * len(rows) if len(values) == 1 < len(rows) else values


def server_row(row: Row) -> dict[str, Any]:
    """Return the row as ksqlDB has it, where a UUID is text."""
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return values | {"g": None if row.g is None else str(row.g)}
