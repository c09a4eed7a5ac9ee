"""What may change in a topic: new nullable columns are added, everything else about columns and keys is refused by name."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import polars as pl

from kandle.errors import SchemaError, StorageError
from kandle.log.records import HEADERS, Records, decode_frame, encode_frame
from kandle.plan.topics import TopicColumn, TopicSpec


def merged_columns(there: TopicSpec, wanted: TopicSpec) -> tuple[TopicColumn, ...]:
    """The columns of a topic with the wanted new ones behind; SchemaError names what cannot be changed."""
    if there.keys != wanted.keys:
        raise SchemaError(
            f"topic {there.name} has the key ({', '.join(there.keys)}), but ({', '.join(wanted.keys)}) is declared; "
            "a key cannot change: use another topic"
        )
    old = {column.name: column for column in there.columns}
    new = {column.name: column for column in wanted.columns}
    for name, column in old.items():
        _check_same(there.name, column, new.get(name))
    added = [column for name, column in new.items() if name not in old]
    for column in added:
        if not column.nullable:
            raise SchemaError(
                f"topic {there.name} has no column {column.name}; a new column must be nullable (`{column.name}: ... | None`), "
                "since older records have no value for it"
            )
    return (*there.columns, *added)


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


SETTINGS = ("partitions", "replication", "retention", "retention_bytes", "compacted", "time")


def differences(there: TopicSpec, wanted: TopicSpec) -> tuple[str, ...]:
    """Settings that differ from those wanted, in words."""
    return tuple(
        f"topic {there.name}: {name} is {getattr(there, name)}, {getattr(wanted, name)} is declared"
        for name in SETTINGS
        if getattr(there, name) != getattr(wanted, name)
    )


def kept(spec: TopicSpec, *, retention: int | None, compacted: bool) -> TopicSpec:
    """The same topic, kept otherwise."""
    return replace(spec, retention=retention, compacted=compacted)


def header_columns(columns: Sequence[TopicColumn]) -> dict[str, str]:
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
        columns = tuple(TopicColumn(physical=schema[column["name"]], **column) for column in content.pop("columns"))
        return TopicSpec(columns=columns, keys=tuple(content.pop("keys")), **content)
    except (ValueError, TypeError, LookupError, AttributeError, pl.exceptions.PolarsError, OSError) as error:
        raise StorageError("the description of a topic is damaged") from error
