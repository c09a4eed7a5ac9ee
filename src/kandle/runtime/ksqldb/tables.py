"""The topic of a table of open bars, as the server describes it."""

from __future__ import annotations

from collections.abc import Mapping

from kandle.errors import KsqlError
from kandle.ksql.program import LiveTable
from kandle.ksql.rest.results import Description
from kandle.ksql.types import KsqlType, column_type
from kandle.log.port import Column, TopicSpec
from kandle.model.types import BOOLEAN, BYTES, DATE, FLOAT, INTEGER, MAX_PRECISION, STRING, TIMESTAMP, DataType, DecimalType
from kandle.query.query import QueryModel
from kandle.runtime.ksqldb.aggregated import Aggregated

_TYPES: dict[str, DataType] = {
    "BOOLEAN": BOOLEAN,
    "INTEGER": INTEGER,
    "BIGINT": INTEGER,
    "DOUBLE": FLOAT,
    "VARCHAR": STRING,
    "BYTES": BYTES,
    "DATE": DATE,
    "TIMESTAMP": TIMESTAMP,
}


def aggregated(query: QueryModel, table: LiveTable, found: Description) -> Aggregated:
    """What tasks read of the table; KsqlError names a column that is missing or of another type."""
    types = {column.name: column.type for column in found.columns}
    fields = {each.name: each.type for each in query.target.fields}
    keys = (*table.keys, table.start)
    values = dict.fromkeys(name for name in (*fields, *table.partials.values()) if name not in keys)
    columns = [_column(table, name, types, fields.get(name), is_key=True) for name in keys]
    columns += [_column(table, name, types, fields.get(name), is_key=False) for name in values]
    spec = TopicSpec(found.topic, tuple(columns), keys, found.partitions, found.replication, compacted=True, time=table.start)
    return Aggregated(query, spec, table.partials)


def _column(table: LiveTable, name: str, types: Mapping[str, KsqlType], field: DataType | None, *, is_key: bool) -> Column:
    if name not in types:
        raise KsqlError(f"table {table.name} of ksqlDB has no column {name}; there are {', '.join(types)}")
    if field is not None and types[name] != column_type(field):
        raise KsqlError(f"table {table.name} of ksqlDB: column {name} is {types[name]}, but the field is {field}")
    kind = _type_of(table, name, types[name]) if field is None else field
    # ksqlDB's columns may all be NULL.
    return Column(name, str(kind), kind.physical, nullable=not is_key)


def _type_of(table: LiveTable, name: str, kind: KsqlType) -> DataType:
    if kind.is_decimal and kind.precision <= MAX_PRECISION:
        return DecimalType(kind.precision, kind.scale)
    if kind.name not in _TYPES:
        raise KsqlError(f"table {table.name} of ksqlDB: column {name} is {kind}, which kandle cannot read from a topic")
    return _TYPES[kind.name]
