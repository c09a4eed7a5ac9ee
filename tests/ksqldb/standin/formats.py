"""Records of ksqlDB's topics as it writes and reads them: JSON, KAFKA, and Avro with a registry."""

from __future__ import annotations

import io
import json
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro

from tests.ksqldb.simulator.sources import SourceColumn, StreamOrTable
from tests.ksqldb.simulator.types import Type

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
WINDOW_BYTES = 8
AVRO = {"BOOLEAN": "boolean", "INTEGER": "int", "BIGINT": "long", "DOUBLE": "double", "VARCHAR": "string", "BYTES": "bytes"}


class Records:
    """Keys and values of one source; `registry` is the url of a schema registry."""

    def __init__(self, source: StreamOrTable, registry: str) -> None:
        self._source = source
        self._registry = registry
        self._keys = source.keys
        self._values = [column for column in source.columns if not column.key]
        self._schemas: dict[int, Any] = {}
        self._numbers: dict[str, int] = {}

    def row(self, key: bytes | None, value: bytes | None) -> dict[str, Any] | None:
        """The columns of a record; None for one that ksqlDB passes over."""
        if key is None or value is None:
            return None
        found = self._read(self._source.key_format, key, self._keys, is_key=True)
        return found | self._read(self._source.value_format, value, self._values, is_key=False)

    def key(self, row: Mapping[str, Any], window: int | None) -> bytes:
        """The key of a row, with the start of its window."""
        written = self._write(self._source.key_format, row, self._keys, "key")
        return written if window is None else written + window.to_bytes(WINDOW_BYTES, "big")

    def value(self, row: Mapping[str, Any]) -> bytes:
        """The value of a row."""
        return self._write(self._source.value_format, row, self._values, "value")

    def _read(self, form: str, content: bytes, columns: Sequence[SourceColumn], *, is_key: bool) -> dict[str, Any]:
        if form == "KAFKA":
            return {columns[0].name: content.decode()}
        found = self._avro(content) if form == "AVRO" else json.loads(content, parse_float=Decimal)
        if is_key and len(columns) == 1:
            return {columns[0].name: _python(found, columns[0].type)}
        return {column.name: _python(found.get(column.name), column.type) for column in columns}

    def _avro(self, content: bytes) -> Any:
        number = int.from_bytes(content[1:5], "big")
        if number not in self._schemas:
            with urllib.request.urlopen(f"{self._registry}/schemas/ids/{number}") as answer:
                self._schemas[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        return fastavro.schemaless_reader(io.BytesIO(content[5:]), self._schemas[number], None)

    def _write(self, form: str, row: Mapping[str, Any], columns: Sequence[SourceColumn], part: str) -> bytes:
        if form == "KAFKA":
            return str(row[columns[0].name]).encode()
        is_bare = part == "key" and len(columns) == 1
        if form == "JSON":
            content = _json(row[columns[0].name]) if is_bare else _object({each.name: row[each.name] for each in columns})
            return content.encode()
        fields = [{"name": each.name, "type": ["null", _avro_type(each.type)], "default": None} for each in columns]
        record = {"type": "record", "name": f"io.confluent.ksql.avro_schemas.{part.title()}", "fields": fields}
        schema = fields[0]["type"] if is_bare else record
        return self._written(part, schema, row[columns[0].name] if is_bare else {each.name: row[each.name] for each in columns})

    def _written(self, part: str, schema: Any, content: Any) -> bytes:
        subject = f"{self._source.topic}-{part}"
        if subject not in self._numbers:
            body = json.dumps({"schema": json.dumps(schema)}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{self._registry}/subjects/{subject}/versions", body, headers)
            with urllib.request.urlopen(request) as answer:
                self._numbers[subject] = json.load(answer)["id"]
        buffer = io.BytesIO(b"\0" + self._numbers[subject].to_bytes(4, "big"))
        buffer.seek(5)
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), content)
        return buffer.getvalue()


def _avro_type(kind: Type) -> Any:
    if kind.name == "DECIMAL":
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if kind.name == "TIMESTAMP":
        return {"type": "long", "logicalType": "timestamp-millis"}
    return {"type": "int", "logicalType": "date"} if kind.name == "DATE" else AVRO[kind.name]


def _python(value: Any, kind: Type) -> Any:
    """A value of JSON or Avro as the reading of KSQL has it."""
    if value is None:
        return None
    if kind.name == "TIMESTAMP":
        return value if isinstance(value, datetime) else EPOCH + value * MILLISECOND
    if kind.name == "DATE":
        return value if isinstance(value, date) else EPOCH.date() + timedelta(days=value)
    if kind.name == "DECIMAL":
        return Decimal(value).quantize(Decimal(1).scaleb(-kind.scale))
    if kind.name == "ARRAY":
        return [_python(each, kind.items[0]) for each in value]
    if kind.name == "STRUCT":
        return {name: _python(value.get(name), each) for name, each in zip(kind.fields, kind.items, strict=True)}
    return value


def _object(row: Mapping[str, Any]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{_json(value)}" for name, value in row.items()) + "}"


def _json(value: Any) -> str:
    """JSON with decimals to the last digit."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return str((value - EPOCH) // MILLISECOND)
    if isinstance(value, date):
        return str((value - EPOCH.date()).days)
    return json.dumps(value)
