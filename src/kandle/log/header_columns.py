"""Columns that stand in the headers of records: what they say is written there, and read from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from kandle.log.port import Column
from kandle.log.records import HEADERS, Records


def header_columns(columns: Sequence[Column]) -> dict[str, str]:
    """The header of each column that stands in one."""
    return {column.name: column.header for column in columns if column.header is not None}


def with_headers(records: Records, columns: Mapping[str, str]) -> Records:
    """The records with the headers that their columns say, behind those that they have and that do not say it yet."""
    named = {name: header for name, header in columns.items() if name in records.frame.columns}
    if not any(records.frame[name].count() for name in named):
        return records
    frame = records.frame.select(list(named))
    if records.headers is None:
        lists = [_header(header, pl.col(name)) for name, header in named.items()]
    else:
        frame = frame.with_columns(records.headers.alias("headers"))
        fresh = {header: pl.when(pl.col(name).ne_missing(_value(header))).then(pl.col(name)) for name, header in named.items()}
        lists = [pl.col("headers").fill_null(_NONE), *(_header(header, value) for header, value in fresh.items())]
    return replace(records, headers=frame.select(pl.concat_list(lists).alias("headers"))["headers"])


def with_columns(records: Records, columns: Mapping[str, str]) -> Records:
    """The records with the columns that their headers say; of several headers of a name the last one counts."""
    if not columns or records.headers is None:
        return records
    found = [_value(header).alias(name) for name, header in columns.items()]
    return replace(records, frame=records.frame.with_columns(records.headers.to_frame("headers").select(found).get_columns()))


_NONE = pl.lit([], dtype=HEADERS)


def _header(header: str, value: pl.Expr) -> pl.Expr:
    """A list of the one header, or of none where there is no value."""
    one = pl.concat_list(pl.struct(pl.lit(header).alias("name"), value.alias("value")))
    return pl.when(value.is_not_null()).then(one).otherwise(_NONE)


def _value(header: str) -> pl.Expr:
    part = pl.element().struct
    return pl.col("headers").list.eval(part.field("value").filter(part.field("name") == header)).list.last()
