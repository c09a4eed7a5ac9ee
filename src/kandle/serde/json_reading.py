"""JSON records as columns: most of them at once, the others one by one.

msgspec reads a record into a struct that is generated for the names which the topic's records have; Polars converts the
columns of many structs. A record that msgspec refuses, or that holds a value out of the ordinary (a number as text, a date in
another form), is read again by the rules of `json_values`, which also say what is wrong with it.

Both ways give the same rows: msgspec is at least as strict as `json`, and the struct refuses names that it does not know, so
that no other spelling of a field's name is overlooked. Names that come up are added to the struct for the next batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Annotated, Any, NamedTuple, NoReturn

import msgspec
import numpy as np
import polars as pl

from kandle.model.parsing import decimal_from_text, timestamp_from_text
from kandle.model.types import (
    DAY_BOUNDS,
    INSTANT_BOUNDS,
    INTEGER_BOUNDS,
    BytesType,
    DataType,
    DateType,
    DecimalType,
    StringMapType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.serde.json_values import NANOSECONDS, NUMBER, column_of, default_value, epoch_unit, is_pattern, json_value
from kandle.serde.port import BoolArray, Messages, RecordField, has_default, physical_default

MOST_FOREIGN_NAMES = 100
"""Names of no field for which a struct has room; records with others are read one by one."""

ISO_DAY = r"^\d{4}-\d{2}-\d{2}$"
ISO_INSTANT = r"^\d{4}-\d{2}-\d{2}T[0-2]\d:[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
CANONICAL_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

BEYOND_DECIMAL = Decimal("Infinity"), Decimal("1e-999999")
"""Stand for numbers whose exponent `Decimal` cannot hold: too large for any type, and too small for any but a float's 0."""


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
            content = json.loads(message.decode(), parse_float=_decimal_of, parse_constant=_refuse_constant)
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


def _decimal_of(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return BEYOND_DECIMAL["e-" in text.lower()]


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
        super().__init__(_hint(field))
        self._field = field

    def decode(self, messages: Messages) -> tuple[Structs, list[int]]:
        """Return the values, and the positions of messages that are refused."""
        if isinstance(self._field.type, StringMapType):
            # A map that is the value and an object that holds the field look alike here.
            return [], list(range(len(messages)))
        return super().decode(messages)

    def columns(self, structs: Structs) -> tuple[list[pl.Series], BoolArray | None]:
        """Return the column, and which of its rows must be read one by one."""
        column, doubtful = _column(self._field, structs)
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
        return _hint(field), msgspec.NODEFAULT
    if is_only and physical_default(field) is None:
        return _hint(field), None
    return _hint(field) | msgspec.UnsetType, msgspec.UNSET


def _with_default(field: RecordField, values: list[Any]) -> tuple[pl.Series, BoolArray | None]:
    """Return a column, with the default where there is no value, and which of its rows must be read one by one."""
    if msgspec.UNSET not in values:
        return _column(field, values)
    missing = np.fromiter((value is msgspec.UNSET for value in values), np.bool_, len(values))
    column, doubtful = _column(field, [None if value is msgspec.UNSET else value for value in values])
    doubtful = np.zeros(len(values), np.bool_) if doubtful is None else doubtful
    if not has_default(field):
        return column, doubtful | missing
    default = pl.Series(field.name, [physical_default(field)], dtype=field.type.physical)
    column = default.new_from_index(0, len(values)).zip_with(pl.Series(missing), column)
    doubtful &= ~missing
    return column, doubtful if doubtful.any() else None


def _hint(field: RecordField) -> Any:
    """Return the type by which msgspec reads the field's values."""
    kind = field.type.row.json
    if kind is int:
        kind = Annotated[int, msgspec.Meta(ge=INTEGER_BOUNDS[0], le=INTEGER_BOUNDS[1])]
    elif isinstance(field.type, StringType) and field.type.max_length is not None:
        kind = Annotated[str, msgspec.Meta(max_length=field.type.max_length)]
    return kind | None if field.nullable else kind


def _column(field: RecordField, values: list[Any]) -> tuple[pl.Series, BoolArray | None]:
    """Return a physical column, and which of its rows must be read one by one: NULL says nothing there."""
    convert = _CONVERTERS.get(type(field.type), _plain)
    column = convert(field, values).alias(field.name)
    nulls = column.null_count()
    if not nulls or (field.nullable and nulls == values.count(None)):
        return column, None
    wrong: BoolArray = column.is_null().to_numpy()
    if field.nullable:
        wrong = wrong & np.fromiter((value is not None for value in values), np.bool_, len(values))
    return column, wrong


def _plain(field: RecordField, values: list[Any]) -> pl.Series:
    return pl.Series(values, dtype=field.type.physical)


def _one_by_one(field: RecordField, values: list[Any]) -> pl.Series:
    """Return a column of values of any kind, NULL where one cannot be taken."""
    return column_of(field, [_single(field, value) for value in values])


def _single(field: RecordField, value: Any) -> Any:
    try:
        return None if value is None else json_value(field, _decimal_of(value.decode()) if type(value) is bytes else value)
    except ValueError:
        return None


def _decimals(field: RecordField, values: list[Any]) -> pl.Series:
    assert isinstance(field.type, DecimalType)
    if not {bytes, type(None)}.issuperset(map(type, values)):
        values = [value if type(value) is bytes else _number_text(value) for value in values]
    numbers = decimal_from_text(pl.Series(values, dtype=pl.Binary).cast(pl.String), field.type.scale)
    return _within(numbers, *field.type.bounds).cast(field.type.physical)


def _number_text(value: Any) -> bytes | None:
    if type(value) is int:
        return b"%d" % value
    is_number = type(value) is str and re.fullmatch(NUMBER, value, re.ASCII) is not None
    return value.encode() if is_number else None


def _within(numbers: pl.Series, first: int, last: int) -> pl.Series:
    """Return the numbers, NULL where they are not within bounds."""
    low: Any = numbers.min()
    high: Any = numbers.max()
    if low is None or (first <= low and high <= last):
        return numbers
    fits = pl.col("v").is_between(pl.lit(first, dtype=numbers.dtype), pl.lit(last, dtype=numbers.dtype))
    return numbers.to_frame("v").select(pl.when(fits).then(pl.col("v"))).to_series()


def _whole_numbers(values: list[Any]) -> pl.Series | None:
    """Return a column of integers of 64 bits; None if the values are not such, or NULL."""
    if not {int, type(None)}.issuperset(map(type, values)):
        return None
    try:
        return pl.Series(values, dtype=pl.Int64)
    except (OverflowError, TypeError):
        return None


def _texts(values: list[Any], form: str) -> pl.Series | None:
    """Return a column of texts of a form; None if not all are such, or NULL."""
    if not {str, type(None)}.issuperset(map(type, values)):
        return None
    column = pl.Series(values, dtype=pl.String)
    return column if column.str.contains(form).all() else None


def _dates(field: RecordField, values: list[Any]) -> pl.Series:
    days = _whole_numbers(values)
    if days is None:
        texts = _texts(values, ISO_DAY)
        if texts is None:
            return _one_by_one(field, values)
        days = texts.str.to_date("%Y-%m-%d", strict=False).to_physical()
    return _within(days, *DAY_BOUNDS).cast(pl.Int32).cast(field.type.physical)


def _timestamps(field: RecordField, values: list[Any]) -> pl.Series:
    numbers = _whole_numbers(values)
    if numbers is not None and field.datetime_format == NANOSECONDS:
        numbers = numbers.set((numbers % 1_000 != 0).fill_null(False), None) // 1_000
    elif numbers is not None:
        unit = epoch_unit(field)
        numbers = _within(numbers, -(-INSTANT_BOUNDS[0] // unit), INSTANT_BOUNDS[1] // unit) * unit
    else:
        pattern = field.datetime_format if is_pattern(field.datetime_format) else None
        texts = _texts(values, "" if pattern else ISO_INSTANT)
        if texts is None:
            return _one_by_one(field, values)
        numbers = timestamp_from_text(texts, pattern).to_physical()
    # A pattern may say a year that Python does not know; the rules for single values leave those to the reader of the text.
    return _within(numbers, *INSTANT_BOUNDS).cast(field.type.physical)


def _uuids(field: RecordField, values: list[Any]) -> pl.Series:
    texts = pl.Series(values, dtype=pl.String).str.to_lowercase()
    return texts if texts.str.contains(CANONICAL_UUID).all() else _one_by_one(field, values)


def _maps(field: RecordField, values: list[Any]) -> pl.Series:
    entries = [None if value is None else [{"key": key, "value": text} for key, text in value.items()] for value in values]
    return pl.Series(entries, dtype=field.type.physical)


_CONVERTERS: dict[type[DataType], Callable[[RecordField, list[Any]], pl.Series]] = {
    DecimalType: _decimals,
    UuidType: _uuids,
    BytesType: _one_by_one,
    DateType: _dates,
    TimestampType: _timestamps,
    StringMapType: _maps,
}
