"""JSON records as columns: most of them at once, the others one by one.

msgspec reads a record into a struct that is generated for the names which the topic's records have; Polars converts the
columns of many structs. A record that msgspec refuses, or that holds a value out of the ordinary (a number as text, a date in
another form), is read again by the rules of `json_values`, which also say what is wrong with it.

Both ways give the same rows: msgspec is at least as strict as `json`, and the struct refuses names that it does not know, so
that no other spelling of a field's name is overlooked. Names that come up are added to the struct for the next batch.
A few records are always read one by one, which is faster then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
import polars as pl

from kandle.model.types import StringMapType
from kandle.serde.json_columns import physical_column, struct_type
from kandle.serde.json_values import column_of, decimal_of, default_value, json_value
from kandle.serde.port import FEW, BoolArray, Messages, RecordField, has_default, physical_default

MOST_FOREIGN_NAMES = 100
"""Names of no field for which a struct has room; records with others are read one by one."""


class JsonProblem(NamedTuple):
    """Why a record cannot be read.

    `field` holds a value that cannot be taken; `missing` is the name of a field that the record does not have.
    """

    reason: str
    field: RecordField | None = None
    missing: str | None = None

    def __str__(self) -> str:
        return self.reason if self.field is None else f"field {self.field.name}: {self.reason}"


class _RecordError(ValueError):
    """A record that cannot be read."""

    def __init__(self, problem: JsonProblem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


class JsonReader:
    """Reads records of these fields from JSON objects; a bare field is also read from its value alone.

    Fields are found by name, by alias, else by name in another case. Those that are missing take their default.

    Args:
        fields: The columns to read.
        is_bare: Whether records of one field are its value, without an object around it.
    """

    def __init__(self, fields: Sequence[RecordField], *, is_bare: bool = False) -> None:
        self.fields = tuple(fields)
        self._is_bare = is_bare
        self._names = {field.name.casefold(): field.name for field in reversed(self.fields)}
        self._names |= {name: field.name for field in self.fields for name in (*field.aliases, field.name)}
        self._defaults = {field.name: default_value(field) for field in self.fields}
        self._struct = _Bare(self.fields[0]) if is_bare else _Layout(self.fields, self._names, [f.name for f in self.fields])

    def read(self, messages: Messages) -> tuple[pl.DataFrame, dict[int, JsonProblem]]:
        """Read a row of each message.

        Args:
            messages: JSON in UTF-8.

        Returns:
            A physical frame of the messages that can be read, in their order, and the problems of the others by their position.
        """
        if len(messages) <= FEW:
            rows, problems, _ = self._careful(messages, range(len(messages)))
            return self._frame(rows), problems
        return self._read_many(messages)

    def _read_many(self, messages: Messages) -> tuple[pl.DataFrame, dict[int, JsonProblem]]:
        structs, left = self._struct.decode(messages)
        columns, doubtful = self._struct.columns(structs)
        frame = pl.DataFrame(columns)
        if not left and doubtful is None:
            return frame, {}
        if not self.fields:
            return frame, self._careful(messages, left)[1]
        positions = np.delete(np.arange(len(messages)), left)
        if doubtful is not None:
            left = sorted([*left, *positions[doubtful].tolist()])
            frame, positions = frame.filter(pl.Series(~doubtful)), positions[~doubtful]
        rows, problems, names = self._careful(messages, left)
        self._learn(names)
        single = [position for position in left if position not in problems]
        order = np.argsort(np.concatenate([positions, np.array(single, np.int64)]), kind="stable")
        return pl.concat([frame, self._frame(rows)])[order], problems

    def _learn(self, names: Iterable[str]) -> None:
        """Make room in the struct for names that records have had."""
        if isinstance(self._struct, _Bare):
            return
        known = self._struct.names
        fresh = [name for name in dict.fromkeys(names) if name not in known and _is_usable(name)]
        fresh = fresh[: max(MOST_FOREIGN_NAMES + len(self.fields) - len(known), 0)]
        if fresh:
            self._struct = _Layout(self.fields, self._names, [*known, *fresh])

    def _careful(self, messages: Messages, positions: Sequence[int]) -> tuple[list[list[Any]], dict[int, JsonProblem], list[str]]:
        """Return rows one by one, what is wrong with messages that have none, and the names in all of them."""
        rows: list[list[Any]] = []
        problems: dict[int, JsonProblem] = {}
        names: list[str] = []
        for position in positions:
            try:
                content = self._content(messages[position])
                names += content
                rows.append(self._row(content))
            except _RecordError as error:
                problems[position] = error.problem
            except (ValueError, RecursionError) as error:
                problems[position] = JsonProblem(str(error))
        return rows, problems, names

    def _frame(self, rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
        columns = list(zip(*rows, strict=True)) or [()] * len(self.fields)
        return pl.DataFrame([column_of(field, list(column)) for field, column in zip(self.fields, columns, strict=True)])

    def _content(self, message: bytes | None) -> dict[str, Any]:
        if message is None:
            raise ValueError("there is no record (null)")
        try:
            content = json.loads(message.decode(), parse_float=decimal_of, parse_constant=_refuse_constant)
        except ValueError as error:
            raise ValueError(f"it is not JSON: {error}") from None
        if isinstance(content, dict) and not (self._is_bare and self.fields[0].name not in content):
            return content
        if len(self.fields) == 1:
            return {self.fields[0].name: content}
        raise ValueError(f"it is not a JSON object, but {_KINDS.get(type(content), 'a single value')}")

    def _row(self, content: dict[str, Any]) -> list[Any]:
        values: dict[str, Any] = {}
        for name, value in content.items():
            known = self._names.get(name) or self._names.get(name.casefold())
            if known is not None and (name == known or known not in content):
                values[known] = value
        return [self._value(field, values) for field in self.fields]

    def _value(self, field: RecordField, values: dict[str, Any]) -> Any:
        if field.name not in values:
            if not has_default(field):
                raise _RecordError(JsonProblem(f"there is no field {field.name}", missing=field.name))
            return self._defaults[field.name]
        try:
            return json_value(field, values[field.name])
        except ValueError as error:
            raise _RecordError(JsonProblem(str(error), field)) from None


_KINDS: dict[type, str] = {list: "an array", type(None): "null"}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _is_usable(name: str) -> bool:
    """Return whether a struct can have an attribute that stands for this name."""
    return re.search(r'[\\"\x00-\x1f\ud800-\udfff]', name) is None


Structs = list[Any]


class _Decoding:
    """A decoder of msgspec, and how its results become columns."""

    def __init__(self, kind: Any) -> None:
        # Numbers with a point or an exponent stay text, as bytes: JSON has no bytes, so they cannot be anything else.
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind, float_hook=str.encode)

    def decode(self, messages: Messages) -> tuple[Structs, list[int]]:
        """Return what the messages hold, and the positions of those that are refused."""
        structs: Structs = []
        refused: list[int] = []
        decode, append = self._decoder.decode, structs.append
        for position, message in enumerate(messages):
            try:
                append(decode(message))  # type: ignore[arg-type]
            except (msgspec.MsgspecError, RecursionError, TypeError, ValueError):
                refused.append(position)
        return structs, refused


class _Bare(_Decoding):
    """Values of one field."""

    def __init__(self, field: RecordField) -> None:
        super().__init__(struct_type(field))
        self._field = field

    def decode(self, messages: Messages) -> tuple[Structs, list[int]]:
        """Return the values, and the positions of messages that are refused."""
        if isinstance(self._field.type, StringMapType):
            # A map that is the value and an object that holds the field look alike here.
            return [], list(range(len(messages)))
        return super().decode(messages)

    def columns(self, structs: Structs) -> tuple[list[pl.Series], BoolArray | None]:
        """Return the column, and which of its rows must be read one by one."""
        column, doubtful = physical_column(self._field, structs)
        return [column], doubtful


class _Layout(_Decoding):
    """A struct with an attribute for each name that records of the fields have had."""

    def __init__(self, fields: Sequence[RecordField], known: dict[str, str], names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._fields = fields
        usable = {name: f"f{number}" for number, name in enumerate(self.names) if _is_usable(name)}
        owners = {name: known.get(name) or known.get(name.casefold()) for name in usable}
        self._getters: dict[str, list[Callable[[Any], Any]]] = {}
        attributes = [(usable[name], object, None) for name, owner in owners.items() if owner is None]
        for field in fields:
            others = [name for name, owner in owners.items() if owner == field.name != name]
            own = [field.name] if owners.get(field.name) == field.name else []
            attributes += [(usable[name], *_attribute(field, is_only=not others)) for name in (*own, *others)]
            getters: list[Callable[[Any], Any]] = [attrgetter(usable[name]) for name in (*own, *others)]
            self._getters[field.name] = getters if own else [_unset, *getters]
        struct = msgspec.defstruct(
            "Record",
            attributes,
            rename={attribute: name for name, attribute in usable.items()},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )
        super().__init__(struct)

    def columns(self, structs: Structs) -> tuple[list[pl.Series], BoolArray | None]:
        """Return a column for each field, and which rows must be read one by one."""
        columns: list[pl.Series] = []
        all_doubtful: BoolArray | None = None
        for field in self._fields:
            values, doubtful = self._values(field, structs)
            column, wrong = _with_default(field, values)
            columns.append(column)
            for mask in (doubtful, wrong):
                if mask is not None:
                    all_doubtful = mask if all_doubtful is None else all_doubtful | mask
        return columns, all_doubtful

    def _values(self, field: RecordField, structs: Structs) -> tuple[list[Any], BoolArray | None]:
        """Return the field's values, and where a record has it under several names that are not its own."""
        own, *others = self._getters[field.name]
        values = list(map(own, structs))
        if not others:
            return values, None
        doubtful = np.zeros(len(structs), np.bool_)
        for row, value in enumerate(values):
            if value is msgspec.UNSET:
                given = [other for get in others if (other := get(structs[row])) is not msgspec.UNSET]
                values[row] = given[0] if given else value
                doubtful[row] = len(given) > 1
        return values, doubtful if doubtful.any() else None


def _unset(struct: Any) -> Any:
    return msgspec.UNSET


def _attribute(field: RecordField, *, is_only: bool) -> tuple[Any, Any]:
    """Return type and default of an attribute that holds the field, under the only name that records have for it or not."""
    if is_only and not has_default(field):
        return struct_type(field), msgspec.NODEFAULT
    if is_only and physical_default(field) is None:
        return struct_type(field), None
    return struct_type(field) | msgspec.UnsetType, msgspec.UNSET


def _with_default(field: RecordField, values: list[Any]) -> tuple[pl.Series, BoolArray | None]:
    """Return a column, with the default where there is no value, and which of its rows must be read one by one."""
    if msgspec.UNSET not in values:
        return physical_column(field, values)
    missing = np.fromiter((value is msgspec.UNSET for value in values), np.bool_, len(values))
    column, doubtful = physical_column(field, [None if value is msgspec.UNSET else value for value in values])
    doubtful = np.zeros(len(values), np.bool_) if doubtful is None else doubtful
    if not has_default(field):
        return column, doubtful | missing
    default = pl.Series(field.name, [physical_default(field)], dtype=field.type.physical)
    column = default.new_from_index(0, len(values)).zip_with(pl.Series(missing), column)
    doubtful &= ~missing
    return column, doubtful if doubtful.any() else None
