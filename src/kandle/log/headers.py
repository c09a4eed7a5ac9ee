"""Headers of records: pairs of a name and bytes, or a name alone; a record may have several of one name.

In frames they are one column of lists. For text there are simple forms on both ways: users give texts and read dicts of texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from kandle.errors import DataError
from kandle.log.records import Records

HEADERS = pl.List(pl.Struct({"name": pl.String, "value": pl.Binary}))
"""Type of a column of headers: lists of name and value."""

HeaderValue = str | bytes | None
"""The value of a header as users give it; a text is its UTF-8 bytes."""

Headers = Mapping[str, HeaderValue] | Iterable[tuple[str, HeaderValue]]
"""Headers of one record as users give them; pairs, where a name comes more than once."""

HeaderPairs = tuple[tuple[str, bytes | None], ...]
"""Headers of one record as they are."""


def header_pairs(headers: Headers | None) -> HeaderPairs:
    """Return headers as pairs of a name and bytes.

    Args:
        headers: A mapping or pairs; None for no headers.

    Raises:
        DataError: A name is no text, or a value is neither text nor bytes nor None.
    """
    if headers is None:
        return ()
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise DataError(f"header {pair!r} is no pair of a name and a value; write {{'name': 'text'}} or [('name', b'bytes')]")
    return tuple((name, _header_bytes(name, value)) for name, value in pairs)


def _header_bytes(name: str, value: HeaderValue) -> bytes | None:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"header {name!r} = {value!r} is not text that UTF-8 can hold") from error
    if value is None or isinstance(value, bytes):
        return value
    raise DataError(f"header {name!r} = {value!r} is of type {type(value).__name__}; give a text, bytes or None")


def header_column(rows: Sequence[Headers | None]) -> pl.Series | None:
    """Return the headers of records as a column, or None if no record has headers.

    Args:
        rows: The headers of each record.
    """
    return column_of_pairs([header_pairs(row) for row in rows])


def column_of_pairs(rows: Sequence[Sequence[tuple[str, bytes | None]] | None]) -> pl.Series | None:
    """Return pairs of name and bytes as a column of headers, or None if there are none at all.

    Args:
        rows: The headers of each record, or None.
    """
    if not any(rows):
        return None
    # One long column of all headers, which Polars cuts into lists: lists of dicts would be read value by value.
    counts = [len(row) if row else 0 for row in rows]
    pairs = [pair for row in rows if row for pair in row]
    flat = pl.DataFrame(
        {
            "row": np.repeat(np.arange(len(rows)), counts),
            "name": [name for name, _ in pairs],
            "value": [value for _, value in pairs],
        },
        schema={"row": pl.Int64, "name": pl.String, "value": pl.Binary},
    )
    lists = flat.group_by("row", maintain_order=True).agg(pl.struct("name", "value").alias("headers"))
    numbers = pl.DataFrame({"row": np.arange(len(rows))}, schema={"row": pl.Int64})
    return numbers.join(lists, on="row", how="left", maintain_order="left")["headers"]


def stored_headers(column: pl.Series) -> pl.Series:
    """Return a stored column of headers; former versions of kandle have stored values as text."""
    return column if column.dtype == HEADERS else column.cast(HEADERS)


def header_rows(records: Records) -> list[dict[str, str]]:
    """Return the headers of each record by name, as far as they are text; of several with one name the last counts."""
    return [header_texts(pairs) for pairs in raw_header_rows(records)]


def raw_header_rows(records: Records) -> list[HeaderPairs]:
    """Return all headers of each record, as they are."""
    if records.headers is None:
        return [()] * len(records)
    return [tuple((header["name"], header["value"]) for header in row or ()) for row in records.headers.to_list()]


def header_texts(pairs: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return headers by name, without those that have no value or whose bytes are no text."""
    texts: dict[str, str] = {}
    for name, value in pairs:
        if value is not None:
            try:
                texts[name] = value.decode()
            except UnicodeDecodeError:
                continue
    return texts


def header_values(headers: pl.Series, name: str) -> pl.Series:
    """Return one header of each record as text, or NULL where there is none; of several with the name the last counts.

    Args:
        headers: A column of type `HEADERS`.
        name: The name of the header.
    """
    part = pl.element().struct
    value = pl.col("headers").list.eval(part.field("value").filter(part.field("name") == name)).list.last()
    return headers.to_frame("headers").select(value.cast(pl.String, strict=False).alias(name)).to_series()


def with_header(records: Records, name: str, values: pl.Series) -> Records:
    """Return records with one more header.

    Args:
        records: The records.
        name: The name of the header.
        values: Its text for each record; records without one get no header.
    """
    one = pl.concat_list(pl.struct(pl.lit(name).alias("name"), pl.col("value").cast(pl.Binary)))
    none = pl.lit([], dtype=HEADERS)
    added = pl.when(pl.col("value").is_not_null()).then(one).otherwise(none)
    frame = pl.DataFrame({"value": values})
    if records.headers is None:
        return replace(records, headers=frame.select(added.alias("headers"))["headers"])
    frame = frame.with_columns(records.headers.alias("headers"))
    both = pl.concat_list(pl.col("headers").fill_null(none), added)
    return replace(records, headers=frame.select(both.alias("headers"))["headers"])


HeaderList = Sequence[tuple[str, bytes | None]]


def header_lists(headers: pl.Series) -> list[HeaderList | None]:
    """Return the headers of each record as pairs of name and value, or None; equal ones share a list.

    Args:
        headers: A column of type `HEADERS`.
    """
    counts = headers.list.len().fill_null(0)
    if (counts > 1).any():
        return [[(header["name"], header["value"]) for header in row] if row else None for row in headers.to_list()]
    # None or one each, as of bars that fill gaps: a table of the different ones, and its row for each record.
    single = headers.list.first().struct.unnest()
    different = single.unique(maintain_order=True).with_row_index("row")
    rows = single.join(different, on=["name", "value"], how="left", nulls_equal=True, maintain_order="left")["row"]
    table = np.empty(different.height, np.object_)
    for row, name, value in different.rows():
        table[row] = None if name is None else [(name, value)]
    shared: list[HeaderList | None] = table[rows.to_numpy()].tolist()
    return shared
