"""Avro messages in the wire format of Confluent: a zero byte, four bytes with the number of the writer's schema, the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import polars as pl

from kandle.errors import SchemaError
from kandle.serde.avro_types import parse_schema
from kandle.serde.cursor import Block, Cursor
from kandle.serde.decoding import Decoder
from kandle.serde.encoding import Encoder
from kandle.serde.fields import RecordField
from kandle.serde.port import Decoded, Messages, physical_schema, rejects_of
from kandle.serde.registry import Registry, subject_of
from kandle.serde.schema import Shape, Side, avro_schema, bare_schema
from kandle.time.timeframe import IntArray

MAGIC = 0
HEADER = 5


class AvroFormat:
    """The key or value records of a topic as Avro, with their schema in a registry under `<topic>-key` or `<topic>-value`.

    The schema is registered when it is first needed for writing; readers need no schema of their own. Plans of writers' schemas
    are kept.
    """

    def __init__(
        self,
        topic: str,
        side: Side,
        fields: Sequence[RecordField],
        registry: Registry,
        *,
        namespace: str | None = None,
        shape: Shape = Shape.RECORD,
    ) -> None:
        self.fields = tuple(fields)
        self.subject = subject_of(topic, side)
        is_bare = shape is Shape.BARE and len(self.fields) == 1
        self.schema = bare_schema(self.fields[0]) if is_bare else avro_schema(self.fields, topic, side, namespace)
        self._registry = registry
        self._encoder = Encoder(self.fields, self.subject)
        self._header: bytes | None = None
        self._decoders: dict[int, Decoder | str] = {}

    def prepare(self) -> None:
        """Register the schema; SchemaError if it is not compatible or the newest one of the subject disagrees with the fields."""
        if self._header is None:
            self.check()
            number = self._registry.register(self.subject, self.schema)
            self._header = bytes([MAGIC]) + number.to_bytes(HEADER - 1, "big")

    def check(self) -> None:
        """SchemaError if the newest schema of the subject disagrees with the fields; names the field and both types."""
        latest = self._registry.latest(self.subject)
        if latest is not None:
            Decoder(self.fields, parse_schema(latest.schema), self.subject)

    def encode(self, frame: pl.DataFrame) -> list[bytes | None]:
        """A message per row of a physical frame."""
        self.prepare()
        assert self._header is not None
        return self._encoder.write(frame, self._header)

    def decode(self, messages: Messages) -> Decoded:
        """Physical rows of messages of any number of schemas."""
        places = _long_enough(messages)
        chosen = messages if len(places) == len(messages) else [messages[at] for at in places.tolist()]
        block = Block(cast(Sequence[bytes], chosen))
        frame = self._rows(block)
        if len(places) == len(messages) and not block.reasons:
            return Decoded(frame)
        good = np.ones(len(places), np.bool_)
        good[list(block.reasons)] = False
        reasons = {int(places[at]): reason for at, reason in block.reasons.items()}
        reasons |= {at: _why_not(messages[at]) for at in set(range(len(messages))).difference(places.tolist())}
        return Decoded(frame.filter(pl.Series(good)), rejects_of(reasons, self.subject))

    def _rows(self, block: Block) -> pl.DataFrame:
        """A row for each message of a block."""
        numbers = _numbers(block)
        every = Cursor.over(block, HEADER)
        if not len(every):
            return pl.DataFrame(schema=physical_schema(self.fields))
        if (numbers == numbers[0]).all():
            return self._rows_of(int(numbers[0]), every)
        frames, order = [], []
        for number in np.unique(numbers).tolist():
            chosen = np.flatnonzero(numbers == number)
            frames.append(self._rows_of(number, every.part(chosen)))
            order.append(chosen)
        return pl.concat(frames)[np.argsort(np.concatenate(order))]

    def _rows_of(self, number: int, cursor: Cursor) -> pl.DataFrame:
        decoder = self._decoder(number) if number >= 0 else "it does not begin with the zero byte of the Confluent wire format"
        if isinstance(decoder, Decoder):
            return decoder.read(cursor)
        cursor.block.mark(cursor.rows, decoder)
        return pl.DataFrame(schema=physical_schema(self.fields)).clear(len(cursor))

    def _decoder(self, number: int) -> Decoder | str:
        """The plan for a schema, or why there is none."""
        if number not in self._decoders:
            try:
                schema = self._registry.schema(number)
                if schema is None:
                    # Not kept: it may be registered in a moment.
                    return f"schema {number} is not in the registry"
                self._decoders[number] = Decoder(self.fields, parse_schema(schema), self.subject)
            except SchemaError as error:
                self._decoders[number] = f"schema {number}: {error}"
        return self._decoders[number]


def _long_enough(messages: Messages) -> IntArray:
    """The places of messages that may hold a record."""
    try:
        lengths = np.fromiter(map(len, cast(Sequence[bytes], messages)), np.int64, len(messages))
    except TypeError:
        # Some are None.
        lengths = np.fromiter((len(message or b"") for message in messages), np.int64, len(messages))
    return np.flatnonzero(lengths >= HEADER)


def _why_not(message: bytes | None) -> str:
    if message is None:
        return "there is no record (null)"
    return f"{len(message)} bytes are no record: the header alone has {HEADER}"


def _numbers(block: Block) -> IntArray:
    """The schema number of each message; -1 where the first byte is not that of the wire format."""
    words = block.words[block.starts]
    numbers = (words >> np.uint64(8)).astype(np.uint32).byteswap().astype(np.int64)
    return np.where(words & np.uint64(0xFF) == MAGIC, numbers, -1)
