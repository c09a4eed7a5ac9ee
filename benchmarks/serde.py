"""Nanoseconds per record written as and read from Avro, with fastavro, record by record, beside it.

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
from kandle.serde.avro import HEADER, AvroFormat
from kandle.serde.json import JsonFormat
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


if __name__ == "__main__":
    main()
