"""Nanoseconds per record written as and read from Avro and JSON, and microseconds of a few Avro records.

Beside it in the same run: fastavro, record by record; JSON one by one; a few records as columns.

python -m benchmarks.serde --rows 20000
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import fastavro
import numpy as np
import polars as pl

from kandle.model.types import INTEGER, STRING, TIMESTAMP, DecimalType
from kandle.serde import avro, avro_writing, port
from kandle.serde.avro import HEADER, AvroFormat
from kandle.serde.json import JsonFormat
from kandle.serde.json_reading import JsonReader
from kandle.serde.port import Format, RecordField
from kandle.serde.registry import EmbeddedRegistry, MemoryJournal

PRICE = DecimalType(18, 6)
RUNS = 15
MOST_SINGLE = 2_000


def record(decimals: int, nullable: bool) -> list[RecordField]:
    """Return the fields of two strings, an instant, so many decimals and an integer."""
    names = [("venue", STRING), ("code", STRING), ("at", TIMESTAMP)]
    names += [(f"level_{number}", PRICE) for number in range(decimals)]
    return [RecordField(name, kind, nullable) for name, kind in [*names, ("size", INTEGER)]]


def frame_of(fields: Sequence[RecordField], rows: int, nulls: float) -> pl.DataFrame:
    """Return random rows; each value is NULL with a probability of `nulls`."""
    random = np.random.default_rng(7)
    columns = {}
    for field in fields:
        if field.type == STRING:
            values = pl.Series([f"CODE{number:03d}" for number in random.integers(0, 500, rows)])
        elif field.type == TIMESTAMP:
            values = pl.Series(1_700_000_000_000_000 + random.integers(0, 10**9, rows) * 1_000).cast(field.type.physical)
        else:
            values = pl.Series(random.integers(1, 2 * 10**8 if field.type == PRICE else 5_000, rows))
        columns[field.name] = values.set(pl.Series(random.random(rows) < nulls), None)
    return pl.DataFrame(columns)


def nanoseconds(work: Callable[[], Any], rows: int) -> float:
    """Return the median of some runs, per row."""
    work()
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[RUNS // 2] / rows * 1e9


def row(name: str, written: Format, fields: Sequence[RecordField], frame: pl.DataFrame) -> list[Any]:
    """Return one line of the table, without the peer."""
    messages = written.encode(frame)
    assert written.decode(messages).frame.equals(frame)
    rows = frame.height
    size = sum(len(message or b"") for message in messages) / rows
    encode = nanoseconds(lambda: written.encode(frame), rows)
    return [name, size, encode, nanoseconds(lambda: written.decode(messages), rows)]


def peer(written: AvroFormat, frame: pl.DataFrame) -> tuple[float, float]:
    """Return the nanoseconds of writing and reading the same records one by one."""
    schema = fastavro.parse_schema(json.loads(written.schema))
    messages = [message for message in written.encode(frame.head(MOST_SINGLE)) if message is not None]

    def read() -> list[Any]:
        return [fastavro.schemaless_reader(io.BytesIO(message[HEADER:]), schema, None) for message in messages]

    values = read()

    def write() -> None:
        for value in values:
            target = io.BytesIO(messages[0][:HEADER])
            target.seek(HEADER)
            fastavro.schemaless_writer(target, schema, value)
            target.getvalue()

    return nanoseconds(write, len(messages)), nanoseconds(read, len(messages))


def few(written: AvroFormat, fields: Sequence[RecordField], count: int) -> list[float]:
    """Return microseconds of writing and reading a few records at once, of the same as columns, and of reading by fastavro."""
    frame = frame_of(fields, count, 0.0)
    messages = written.encode(frame)
    schema = fastavro.parse_schema(json.loads(written.schema))
    bodies = [message[HEADER:] for message in messages if message is not None]
    encode, decode = nanoseconds(lambda: written.encode(frame), 1), nanoseconds(lambda: written.decode(messages), 1)
    for module in (avro, avro_writing):
        setattr(module, "FEW", -1)  # noqa: B010 - a name that the modules import
    columns = nanoseconds(lambda: written.encode(frame), 1), nanoseconds(lambda: written.decode(messages), 1)
    for module in (avro, avro_writing):
        setattr(module, "FEW", port.FEW)  # noqa: B010
    single = nanoseconds(lambda: [fastavro.schemaless_reader(io.BytesIO(body), schema, None) for body in bodies], 1)
    return [time / 1_000 for time in (encode, decode, *columns, single)]


def json_ratio(fields: Sequence[RecordField], frame: pl.DataFrame) -> tuple[float, float]:
    """Return nanoseconds per record of reading JSON together, and one by one."""
    reader, messages = JsonReader(fields), JsonFormat("ticks", "value", fields).encode(frame)
    together = nanoseconds(lambda: reader.read(messages), frame.height)
    return together, nanoseconds(lambda: reader._frame(reader._careful(messages, range(frame.height))[0]), frame.height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    print(f"{rows:,} records at a time; ns per record")
    print(f"{'record':<26}{'bytes':>7}{'encode':>9}{'decode':>9}{'fastavro encode':>18}{'fastavro decode':>18}")
    registry = EmbeddedRegistry(MemoryJournal())
    for name, decimals in (("tick", 1), ("bar", 4)):
        for kind, nullable, nulls in (("", False, 0.0), (", nullable", True, 0.0), (", a tenth null", True, 0.1)):
            fields = record(decimals, nullable)
            frame = frame_of(fields, rows, nulls)
            written = AvroFormat(f"{name}{nullable}", "value", fields, registry)
            cells = row(f"{name}{kind}", written, fields, frame)
            encode, decode = peer(written, frame)
            print("{:<26}{:>7.0f}{:>9.0f}{:>9.0f}".format(*cells) + f"{encode:>18,.0f}{decode:>18,.0f}")
        fields = record(decimals, False)
        frame = frame_of(fields, rows, 0.0)
        print("{:<26}{:>7.0f}{:>9.0f}{:>9.0f}".format(*row(f"{name}, JSON", JsonFormat(name, "value", fields), fields, frame)))
        together, single = json_ratio(fields, frame)
        print(f"{name}, JSON read one by one: {single:,.0f}, {single / together:.1f} times as long")
    print(f"\na few Avro records; us per call\n{'records':<10}{'encode':>9}{'decode':>9}{'as columns: encode':>20}", end="")
    print(f"{'decode':>9}{'fastavro decode':>18}")
    fields = record(1, False)
    written = AvroFormat("few", "value", fields, registry)
    for count in (1, 2, 5, 10, 20, port.FEW):
        print("{:<10}{:>9.1f}{:>9.1f}{:>20.0f}{:>9.0f}{:>18.1f}".format(count, *few(written, fields, count)))


if __name__ == "__main__":
    main()
