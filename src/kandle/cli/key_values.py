"""Parts of a key as a command line says them, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from kandle.errors import DataError
from kandle.model.entity import EntityModel, FieldModel
from kandle.model.types import BooleanType, BytesType, DataType, DateType, DecimalType, IntegerType, TimestampType, UuidType
from kandle.time.timeframe import from_instant, parse_instant

WORDS = {"true": True, "false": False}
READERS: dict[type[DataType], Callable[[str], Any]] = {
    BooleanType: lambda text: WORDS[text.lower()],
    IntegerType: int,
    DecimalType: Decimal,
    DateType: date.fromisoformat,
    TimestampType: lambda text: from_instant(parse_instant(text)),
    UuidType: UUID,
    BytesType: str.encode,
}


def series_key(entity: EntityModel) -> tuple[FieldModel, ...]:
    """The key of a series of bars: without the start of the bucket."""
    return tuple(found for found in entity.keys if not found.is_timestamp)


def key_values(entity: EntityModel, texts: Sequence[str]) -> list[Any]:
    """Values of the first parts of the key; DataError names the part that cannot be read."""
    parts = series_key(entity)
    if len(texts) > len(parts):
        names = ", ".join(part.name for part in parts) or "no parts"
        raise DataError(f"the key of {entity.name} is {names}, so {texts[len(parts)]!r} is too much")
    return [_value(entity, part, text) for part, text in zip(parts, texts, strict=False)]


def _value(entity: EntityModel, part: FieldModel, text: str) -> Any:
    try:
        return READERS.get(type(part.type), str)(text)
    except (ValueError, ArithmeticError, KeyError) as error:
        raise DataError(f"{text!r} is no value of {entity.name}.{part.name}, which is {part.type}") from error
