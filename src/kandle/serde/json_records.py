"""Records as JSON objects, one a message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NoReturn

import polars as pl

from kandle.serde.fields import RecordField, has_default
from kandle.serde.json_reading import column_of, default_value, json_value
from kandle.serde.json_writing import json_column
from kandle.serde.port import Decoded, Messages, rejects_of
from kandle.serde.registry import subject_of
from kandle.serde.schema import Shape, Side


class JsonFormat:
    """The key or value records of a topic as JSON; a bare field is its value without an object around it.

    Fields are found by name, by alias, else by name in another case. Those that are missing take their default.
    """

    def __init__(self, topic: str, side: Side, fields: Sequence[RecordField], *, shape: Shape = Shape.RECORD) -> None:
        self.fields = tuple(fields)
        self._subject = subject_of(topic, side)
        self._is_bare = shape is Shape.BARE and len(self.fields) == 1
        self._names = {each.name.casefold(): each.name for each in reversed(self.fields)}
        self._names |= {name: each.name for each in self.fields for name in (*each.aliases, each.name)}

        self._defaults = {each.name: default_value(each) for each in self.fields}

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row of a physical frame."""
        columns = [json_column(each, frame, self._subject) for each in self.fields]
        if self._is_bare:
            return [text.encode() for text in columns[0].to_list()]
        if not columns:
            return [b"{}"] * frame.height
        parts: list[pl.Series | pl.Expr] = []
        for at, (each, column) in enumerate(zip(self.fields, columns, strict=True)):
            parts += [pl.lit(f"{',' if at else '{'}{json.dumps(each.name)}:"), column]
        lines = pl.select(pl.concat_str([*parts, pl.lit("}")])).to_series()
        return [line.encode() for line in lines.to_list()]

    def decode(self, messages: Messages) -> Decoded:
        """A row per message."""
        rows, reasons = [], {}
        for at, message in enumerate(messages):
            try:
                rows.append(self._row(message))
            except (ValueError, RecursionError) as error:
                reasons[at] = f"{self._subject}: {error}"
        columns = list(zip(*rows, strict=True)) or [()] * len(self.fields)
        frame = pl.DataFrame([column_of(each, list(column)) for each, column in zip(self.fields, columns, strict=True)])
        return Decoded(frame, rejects_of(reasons))

    def _row(self, message: bytes | None) -> list[Any]:
        if message is None:
            raise ValueError("there is no record (null)")
        content = self._content(message)
        found: dict[str, Any] = {}
        for name, value in content.items():
            known = self._names.get(name) or self._names.get(name.casefold())
            if known is not None and (name == known or known not in content):
                found[known] = value
        return [self._value(each, found) for each in self.fields]

    def _content(self, message: bytes) -> dict[str, Any]:
        try:
            content = json.loads(message.decode(), parse_float=Decimal, parse_constant=_refuse_constant)
        except ValueError as error:
            raise ValueError(f"it is not JSON: {error}") from None
        if isinstance(content, dict) and not (self._is_bare and self.fields[0].name not in content):
            return content
        if len(self.fields) == 1:
            return {self.fields[0].name: content}
        raise ValueError("it is not a JSON object")

    def _value(self, each: RecordField, found: dict[str, Any]) -> Any:
        if each.name not in found:
            if not has_default(each):
                raise ValueError(f"there is no field {each.name}")
            return self._defaults[each.name]
        try:
            return json_value(each, found[each.name])
        except ValueError as error:
            raise ValueError(f"field {each.name}: {error}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
