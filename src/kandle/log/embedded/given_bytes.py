r"""Records that are given as bytes, such as those of dead letters from a cluster that are replayed: the embedded log keeps rows.

What is JSON of the topic's fields becomes a row. The others are kept as they are, beside the rows, and come back as rejects:

    given      {"id": "a", "n": 1}      \x00\x00\x01...                            {"id": "b"}
    stored     row a, 1                 bytes, and why they cannot be read     bytes, the reason, and b in the key's column
    read       a record                 a reject                               a reject of the key b
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from kandle.errors import DataError
from kandle.log.headers import column_of_pairs, raw_header_rows
from kandle.log.records import EncodedWrite, Records, RejectedRecord
from kandle.log.schema import with_columns
from kandle.model.entity import EntityModel
from kandle.plan.topics import TopicSpec
from kandle.serde.codec import Formats, TopicCodec, topic_codec
from kandle.serde.port import Decoded, kept_positions
from kandle.time.arrays import IntArray

BYTES = pl.Struct({"key": pl.Binary, "value": pl.Binary, "reason": pl.String})
"""The type of the column of records that are no rows; NULL for those that are."""

POSITION = "__position"


def _codec(spec: TopicSpec, entity: EntityModel | None) -> TopicCodec:
    return topic_codec(spec.name, spec.columns, spec.keys, formats=Formats("JSON", "JSON"), entity=entity)


def _headers(write: EncodedWrite) -> pl.Series | None:
    return None if write.headers is None else column_of_pairs(write.headers)


def decoded_records(spec: TopicSpec, write: EncodedWrite, entity: EntityModel | None) -> Records:
    """Return records that are given as bytes as rows.

    Args:
        spec: Their topic.
        write: The bytes.
        entity: The entity of the topic as it is declared, which adds defaults and aliases.

    Raises:
        DataError: One of the records is no JSON of the topic's fields.
    """
    codec = _codec(spec, entity)
    decoded = codec.decode(write.keys, write.values)
    if decoded.rejects:
        raise DataError(f"the embedded log reads bytes as JSON: {decoded.rejects[0].reason}")
    return with_columns(Records(decoded.frame, _headers(write), decoded.tombstones), codec.headers)


def stored_records(spec: TopicSpec, write: EncodedWrite, entity: EntityModel | None) -> tuple[Records, pl.Series | None]:
    """Return records that are given as bytes as they are stored.

    Args:
        spec: Their topic.
        write: The bytes.
        entity: The entity of the topic as it is declared, which adds defaults and aliases.

    Returns:
        Rows, of which those of records that cannot be read have values in columns of the key at most; and beside them the
        column of the type `BYTES`, None if all records can be read.
    """
    codec = _codec(spec, entity)
    decoded = codec.decode(write.keys, write.values)
    frame, tombstones = _in_order(spec, decoded, len(write))
    records = with_columns(Records(frame, _headers(write), tombstones), codec.headers)
    if not decoded.rejects:
        return records, None
    reasons = {reject.at: reject.reason for reject in decoded.rejects}
    rows = [
        {"key": key, "value": value, "reason": reasons[at]} if at in reasons else None
        for at, (key, value) in enumerate(zip(write.keys, write.values, strict=True))
    ]
    return records, pl.Series(rows, dtype=BYTES)


def _in_order(spec: TopicSpec, decoded: Decoded, count: int) -> tuple[pl.DataFrame, pl.Series | None]:
    """Return a row and a mark of a tombstone for each message; a reject has a key if it could be read, and no more."""
    if not decoded.rejects:
        return decoded.frame, decoded.tombstones
    marks = decoded.tombstones
    good = decoded.frame.with_columns(
        pl.Series(POSITION, kept_positions(count, decoded.rejects)),
        (pl.lit(value=False) if marks is None else marks).alias("tombstone"),
    )
    keys = decoded.reject_keys or [None] * len(decoded.rejects)
    positions = pl.Series(POSITION, [reject.at for reject in decoded.rejects], dtype=pl.Int64)
    rejects = key_rows(spec, keys).with_columns(positions, pl.lit(value=False).alias("tombstone"))
    rows = pl.concat([good, rejects]).sort(POSITION)
    tombstones = rows["tombstone"]
    return rows.select(list(spec.schema)), tombstones if tombstones.any() else None


def key_rows(spec: TopicSpec, keys: Sequence[tuple[Any, ...] | None]) -> pl.DataFrame:
    """Return rows of a topic that have values in the columns of their keys at most.

    Args:
        spec: The topic.
        keys: The values of the key columns of each row; None where they are not known.
    """
    values = {name: [None if key is None else key[number] for key in keys] for number, name in enumerate(spec.keys)}
    empty = [None] * len(keys)
    return pl.DataFrame([pl.Series(name, values.get(name, empty), dtype=dtype) for name, dtype in spec.schema.items()])


def given_rejects(
    spec: TopicSpec, given: pl.Series, records: Records, offsets: IntArray, timestamps: IntArray
) -> tuple[RejectedRecord, ...]:
    """Return the records of a stored batch that are no rows.

    Args:
        spec: Their topic.
        given: The column of the type `BYTES`.
        records: The rows beside it.
        offsets: Offsets of the rows.
        timestamps: When they were appended, in microseconds.
    """
    keys = records.frame.select(spec.keys).rows() if spec.keys else [()] * len(records)
    columns = zip(given.to_list(), keys, offsets.tolist(), timestamps.tolist(), raw_header_rows(records), strict=True)
    return tuple(
        RejectedRecord(offset, row["key"], row["value"], row["reason"], time, headers, _whole(key))
        for row, key, offset, time, headers in columns
        if row is not None
    )


def _whole(key: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return the values of the key columns; None if the key could not be read."""
    return key if key and None not in key else None
