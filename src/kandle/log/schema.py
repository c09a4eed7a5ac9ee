"""Columns of topics: how they may change, which records fit them, and how specs are stored.

An existing topic may get new nullable columns. Any other change of columns or keys is refused with an error
that names it, since older records would not fit; other settings (partitions, retention, ...) are only
compared. What newer versions of kandle have added to its own topics, and to the description of any topic, is left alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import polars as pl

from kandle.errors import SchemaError, StorageError
from kandle.log.headers import HEADERS
from kandle.log.records import Records, decode_frame, encode_frame
from kandle.plan.topics import TopicColumn, TopicSpec
from kandle.time.timeframe import duration_text

SETTINGS = ("partitions", "replication", "retention", "retention_bytes", "compacted", "time")
"""Attributes of a `TopicSpec` that are compared, but not changed."""


def merged_columns(current: TopicSpec, wanted: TopicSpec) -> tuple[TopicColumn, ...]:
    """Return the columns of a topic, followed by the wanted ones that it does not have yet.

    Args:
        current: The topic as it is.
        wanted: The topic as it is declared.

    Raises:
        SchemaError: The keys differ, a column is missing or different in the declaration, or a new one is not
            nullable.
    """
    if current.keys != wanted.keys:
        raise SchemaError(
            f"topic {current.name} has the key ({', '.join(current.keys)}), but ({', '.join(wanted.keys)}) is declared; "
            "a key cannot change: use another topic"
        )
    old = {column.name: column for column in current.columns}
    new = {column.name: column for column in wanted.columns}
    for name, column in old.items():
        is_newer = wanted.is_growing and column.nullable and name not in new
        if not is_newer:
            _check_same(current.name, column, new.get(name))
    added = [column for name, column in new.items() if name not in old]
    for column in added:
        if not column.nullable:
            raise SchemaError(
                f"topic {current.name} has no column {column.name}; a new column must be nullable "
                f"(`{column.name}: ... | None`), since older records have no value for it"
            )
    return (*current.columns, *added)


def with_declared(current: TopicSpec, declared: TopicSpec) -> TopicSpec:
    """Return a topic with the nullable columns that only its declaration has: to those who read it they are NULL.

    Args:
        current: The topic as it is.
        declared: The topic as a reader declares it.
    """
    names = {column.name for column in current.columns}
    added = [column for column in declared.columns if column.nullable and column.name not in names]
    return replace(current, columns=(*current.columns, *added)) if added else current


def _check_same(topic: str, old: TopicColumn, new: TopicColumn | None) -> None:
    if new is None:
        raise SchemaError(
            f"topic {topic} has the column {old.name}, which is not declared; declare it again or use another topic"
        )
    if replace(old, name=new.name) != new:
        raise SchemaError(
            f"topic {topic}, column {old.name}: it is {_words(old)} in the topic and {_words(new)} in the declaration; "
            "a column cannot change: use another topic or another column"
        )


def _words(column: TopicColumn) -> str:
    words = f"{column.kind} | None" if column.nullable else column.kind
    return words if column.header is None else f"{words} of the header {column.header!r}"


def differences(current: TopicSpec, wanted: TopicSpec) -> tuple[str, ...]:
    """Return the settings in which a topic differs from its declaration, in words.

    Args:
        current: The topic as it is.
        wanted: The topic as it is declared.
    """
    return tuple(
        f"topic {current.name}: {name} is {_setting_text(current, name)}, {_setting_text(wanted, name)} is declared"
        for name in SETTINGS
        if getattr(current, name) != getattr(wanted, name) and not _is_left_open(wanted, name)
    )


def _is_left_open(wanted: TopicSpec, name: str) -> bool:
    """Return whether a declaration leaves a setting to the log."""
    return name == "replication" and wanted.replication is None


def _setting_text(spec: TopicSpec, name: str) -> str:
    value = getattr(spec, name)
    if value is None:
        return "unlimited" if name.startswith("retention") else "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return duration_text(value) if name == "retention" else str(value)


def header_columns(columns: Sequence[TopicColumn]) -> dict[str, str]:
    """Return the header of each column whose values stand in headers."""
    return {column.name: column.header for column in columns if column.header is not None}


def with_headers(records: Records, columns: Mapping[str, str]) -> Records:
    """Return the records with headers that hold the values of columns.

    Args:
        records: Records, of which some may have such headers already: those are not added again.
        columns: The header of each column, as `header_columns` returns them.
    """
    named = {name: header for name, header in columns.items() if name in records.frame.columns}
    if not any(records.frame[name].count() for name in named):
        return records
    frame = records.frame.select(list(named))
    if records.headers is None:
        lists = [_header_list(header, pl.col(name)) for name, header in named.items()]
    else:
        frame = frame.with_columns(records.headers.alias("headers"))
        changed = {
            header: pl.when(pl.col(name).cast(pl.Binary).ne_missing(_header_value(header))).then(pl.col(name))
            for name, header in named.items()
        }
        lists = [pl.col("headers").fill_null(_NO_HEADERS), *(_header_list(header, value) for header, value in changed.items())]
    return replace(records, headers=frame.select(pl.concat_list(lists).alias("headers"))["headers"])


def with_columns(records: Records, columns: Mapping[str, str]) -> Records:
    """Return the records with columns that hold the values of headers.

    Of several headers with one name the last counts; bytes that are no text are NULL.

    Args:
        records: Records with headers.
        columns: The header of each column, as `header_columns` returns them.
    """
    if not columns or records.headers is None:
        return records
    values = records.headers.to_frame("headers").select(_header_value(header).alias(name) for name, header in columns.items())
    return replace(records, frame=records.frame.with_columns(_texts(column) for column in values.get_columns()))


def _texts(column: pl.Series) -> pl.Series:
    """Return bytes as text; NULL where they are none."""
    try:
        return column.cast(pl.String)
    except pl.exceptions.ComputeError:
        # Polars refuses the whole column.
        values = [_text(value) for value in column.to_list()]
        return pl.Series(column.name, values, dtype=pl.String)


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


_NO_HEADERS = pl.lit([], dtype=HEADERS)


def _header_list(header: str, value: pl.Expr) -> pl.Expr:
    """Return a list with one header, or an empty list where there is no value."""
    one = pl.concat_list(pl.struct(pl.lit(header).alias("name"), value.cast(pl.Binary).alias("value")))
    return pl.when(value.is_not_null()).then(one).otherwise(_NO_HEADERS)


def _header_value(header: str) -> pl.Expr:
    part = pl.element().struct
    return pl.col("headers").list.eval(part.field("value").filter(part.field("name") == header)).list.last()


def check_records(spec: TopicSpec, records: Records) -> None:
    """Raise SchemaError, which names the column, if records do not fit the columns of their topic."""
    schema = spec.schema
    for name, dtype in records.frame.schema.items():
        if name not in schema:
            raise SchemaError(f"topic {spec.name} has no column {name!r}; it has {', '.join(schema)}")
        if dtype != schema[name]:
            raise SchemaError(f"topic {spec.name}, column {name}: a column of {dtype} does not fit {schema[name]}")
    for column in spec.columns:
        if not column.nullable:
            _check_present(spec, column, records)


def _check_present(spec: TopicSpec, column: TopicColumn, records: Records) -> None:
    tombstones = records.tombstones
    if column.name not in records.frame.columns:
        if tombstones is not None and tombstones.all() and column.name not in spec.keys:
            return
        raise SchemaError(f"topic {spec.name}: the column {column.name} is missing")
    values = records.frame[column.name]
    if not values.null_count():
        return
    required = values if tombstones is None or column.name in spec.keys else values.filter(~tombstones)
    if required.null_count():
        raise SchemaError(f"topic {spec.name}, column {column.name}: there is no value in record {values.is_null().arg_max()}")


def encode_spec(spec: TopicSpec) -> tuple[str, bytes]:
    """Return a spec as JSON, and its column types as an empty frame in bytes; `decode_spec` reads both."""
    content = asdict(spec)
    # The brokers know them, or the process that declares the topic; elsewhere they mean nothing.
    for name in ("append_time", "configs", "is_created", "is_growing"):
        del content[name]
    content["columns"] = [_column_text(column) for column in spec.columns]
    empty = encode_frame(pl.DataFrame(schema=spec.schema))
    return json.dumps(content | {"checksum": _checksum(content, empty)}), empty


def _column_text(column: TopicColumn) -> dict[str, Any]:
    content: dict[str, Any] = {"name": column.name, "kind": column.kind, "nullable": column.nullable}
    return content if column.header is None else content | {"header": column.header}


def _checksum(content: dict[str, Any], empty: bytes) -> int:
    return zlib.crc32(json.dumps(content).encode(), zlib.crc32(empty))


def decode_spec(text: str, empty: bytes) -> TopicSpec:
    """Return the spec that `encode_spec` wrote; StorageError if it is damaged."""
    try:
        content = json.loads(text)
        if content.pop("checksum") != _checksum(content, empty):
            raise ValueError("the checksum does not fit")
        schema = decode_frame(empty).schema
        columns = tuple(
            TopicColumn(physical=schema[column["name"]], **_known(TopicColumn, column)) for column in content.pop("columns")
        )
        return TopicSpec(columns=columns, keys=tuple(content.pop("keys")), **_known(TopicSpec, content))
    except (ValueError, TypeError, LookupError, AttributeError, pl.exceptions.PolarsError, OSError) as error:
        raise StorageError("the description of a topic is damaged") from error


def _known(kind: type[TopicColumn | TopicSpec], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this version knows of a description that a newer one may have written."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in content.items() if name in names}
