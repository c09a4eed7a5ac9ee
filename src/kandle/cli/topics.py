"""`kandle topics`: what is in the log, topic by topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import polars as pl
import typer

from kandle.cli.contexts import AsJson, ConfigFile, DataFolder, LogChoice, opened_log, options_of
from kandle.cli.output import Columns, cell, iso_instant, json_line, logical, printable
from kandle.context.options import DEFAULT_FILE, Options
from kandle.log.port import Log, TopicPartition, TopicSpec
from kandle.log.records import Batch, header_rows
from kandle.time.timeframe import SECOND, duration_text

ROWS_AT_ONCE = 20_000


class Tail:
    """Positions in the partitions of some topics, from which new records are read on."""

    def __init__(self, log: Log, positions: dict[TopicPartition, int]) -> None:
        self._log = log
        self._positions = dict(positions)

    @classmethod
    def at_end(cls, log: Log, topics: Iterable[str]) -> Tail:
        """Begin with what is appended from now on."""
        return cls(log, {place: end for topic in topics for place, _, end in bounds(log, topic)})

    @classmethod
    def at_start(cls, log: Log, topics: Iterable[str]) -> Tail:
        """Begin with the oldest record that is there."""
        return cls(log, {place: start for topic in topics for place, start, _ in bounds(log, topic)})

    def read(self) -> list[Batch]:
        """All records that have come since the last time."""
        return [batch for place in list(self._positions) for batch in self._read(place)]

    def _read(self, place: TopicPartition) -> Iterator[Batch]:
        while batches := self._log.read(place, self._positions[place], ROWS_AT_ONCE):
            yield from batches
            self._positions[place] = batches[-1].next_offset

    def follow(self, patience: int = SECOND) -> Iterator[list[Batch]]:
        """What is there already and then whatever comes, for ever; wakes up with each append."""
        while True:
            if batches := self.read():
                yield batches
            self._log.wait(patience)


def bounds(log: Log, topic: str) -> list[tuple[TopicPartition, int, int]]:
    """Each partition of a topic with its offsets `[start, end)`."""
    return [(TopicPartition(topic, number), state.start, state.end) for number, state in enumerate(log.partitions(topic))]


def newest(log: Log, topic: str, count: int) -> list[Batch]:
    """The last `count` records of a topic at least, in the order in which they were appended within each partition."""
    return [batch for place, start, end in bounds(log, topic) for batch in _newest(log, place, start, end, count)]


def _newest(log: Log, place: TopicPartition, start: int, end: int, count: int) -> list[Batch]:
    """The last records of one partition; looks further back while offsets that compaction took away leave too few."""
    reach = max(count, 1)
    while True:
        begin = max(start, end - reach)
        batches = Tail(log, {place: begin}).read()
        if begin == start or sum(map(len, batches)) >= count:
            return batches
        reach *= 8


def records(log: Log, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Partition, offset, timestamp, headers and value of each record, in the order of the timestamps."""
    rows = [row for batch in batches for row in _records(log, batch)]
    return sorted(rows, key=lambda row: (row["timestamp"], row["partition"], row["offset"]))


def _records(log: Log, batch: Batch) -> Iterator[dict[str, Any]]:
    frame = logical(log.topic(batch.topic), batch.records.frame)
    removed = batch.records.tombstones
    gone = [False] * len(batch) if removed is None else removed.to_list()
    columns = (batch.offsets.tolist(), batch.timestamps.tolist(), header_rows(batch.records), gone, frame.iter_rows(named=True))
    keys = log.topic(batch.topic).keys
    for offset, timestamp, headers, is_gone, value in zip(*columns, strict=True):
        yield {
            "partition": batch.partition,
            "offset": offset,
            "timestamp": iso_instant(timestamp),
            "headers": headers,
            "tombstone": is_gone,
            "value": {name: value[name] for name in keys} if is_gone else value,
        }


def whole(log: Log, topic: str) -> pl.DataFrame:
    """Every record of a topic with its values as users see them, and `_partition`, `_offset` and `_appended` (microseconds)."""
    spec = log.topic(topic)
    parts = [_marked(batch) for batch in Tail.at_start(log, [topic]).read()]
    schema = spec.schema | {"_partition": pl.Int64(), "_offset": pl.Int64(), "_appended": pl.Int64()}
    return logical(spec, pl.concat(parts, how="diagonal") if parts else pl.DataFrame(schema=schema))


def _marked(batch: Batch) -> pl.DataFrame:
    return batch.records.frame.with_columns(
        pl.lit(batch.partition, dtype=pl.Int64).alias("_partition"),
        pl.Series("_offset", batch.offsets, dtype=pl.Int64),
        pl.Series("_appended", batch.timestamps, dtype=pl.Int64),
    )


topics_app = typer.Typer()

TopicName = Annotated[str, typer.Argument(help="Name of the topic.")]
LONGEST_CELL = 60
"""Characters of a value in a table."""
SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


@topics_app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Show what is in the log. Topics, their settings, their newest records."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@topics_app.command("list")
def list_command(
    config: ConfigFile = None, data: DataFolder = None, log_choice: LogChoice = None, as_json: AsJson = False
) -> None:
    """All topics with their sizes and settings."""
    with opened_log(options_of(config, data, log_choice)) as log:
        rows = [_summary(log, spec) for spec in log.topics()]
    if as_json:
        for row in rows:
            typer.echo(json_line(row))
        return
    table = Columns(("topic", "partitions", "records", "size", "retention", "compacted"), right=(1, 2, 3))
    for line in table.lines([_list_row(row) for row in rows]):
        typer.echo(line)


@topics_app.command("describe")
def describe_command(
    topic: TopicName, config: ConfigFile = None, data: DataFolder = None, log_choice: LogChoice = None, as_json: AsJson = False
) -> None:
    """Settings, columns, keys and offsets of a topic."""
    with opened_log(options_of(config, data, log_choice)) as log:
        found = _description(log, log.topic(topic))
    if as_json:
        typer.echo(json_line(found))
        return
    for line in _described(found):
        typer.echo(line)


@topics_app.command("tail")
def tail_command(  # noqa: PLR0913 - options of a command line
    topic: TopicName,
    count: Annotated[int, typer.Option("-n", "--last", min=0, metavar="N", help="How many records.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new records, until Ctrl-C.")] = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """The newest records of a topic. With partition, offset, timestamp and headers."""
    options = options_of(config, data, log_choice)
    with opened_log(options) as log:
        spec = log.topic(topic)
        printer = _RecordPrinter(spec, as_json=as_json)
        tail = Tail.at_end(log, [topic])
        # Positions are noted first, so nothing falls between the two; what both have is shown once.
        found = newest(log, topic, count) if count else []
        printer.show(records(log, found)[-count:])
        _tell_unreadable(found, options)
        if follow:
            for batches in tail.follow():
                printer.show(records(log, batches))
                _tell_unreadable(batches, options)


def _tell_unreadable(batches: Sequence[Batch], options: Options) -> None:
    """Say that there are records which the formats that are known here do not fit."""
    found = [(batch, reject) for batch in batches for reject in batch.rejects]
    if not found:
        return
    batch, first = found[0]
    what = f"{len(found)} of the records of {batch.topic} cannot be read; the first, partition {batch.partition}"
    way = (
        "" if options.context is not None else f'; {DEFAULT_FILE} may name the context that declares them: context = "app:Market"'
    )
    typer.echo(f"kandle: {what}, offset {first.offset}: {first.reason}{way}", err=True)


class _RecordPrinter:
    """Prints records as they come, each once."""

    def __init__(self, spec: TopicSpec, *, as_json: bool) -> None:
        self._names = [column.name for column in spec.columns]
        numeric = [position for position, column in enumerate(spec.columns, 3) if column.physical.is_numeric()]
        self._columns = Columns(("partition", "offset", "timestamp", *self._names, "headers"), right=(0, 1, *numeric))
        self._as_json = as_json
        self._shown: dict[int, int] = {}

    def show(self, rows: list[dict[str, Any]]) -> None:
        fresh = [row for row in rows if row["offset"] > self._shown.get(row["partition"], -1)]
        for row in fresh:
            self._shown[row["partition"]] = max(row["offset"], self._shown.get(row["partition"], -1))
        for line in map(json_line, fresh) if self._as_json else self._columns.lines(map(self._row, fresh)):
            typer.echo(line)

    def _row(self, row: dict[str, Any]) -> list[str]:
        values = [_shortened(cell(row["value"].get(name))) for name in self._names]
        headers = printable(" ".join(f"{name}={value}" for name, value in row["headers"].items()))
        gone = ["(removed)"] if row["tombstone"] else []
        return [str(row["partition"]), str(row["offset"]), row["timestamp"], *values, " ".join([*gone, headers])]


def _summary(log: Log, spec: TopicSpec) -> dict[str, Any]:
    states = log.partitions(spec.name)
    return {
        "topic": spec.name,
        "partitions": spec.partitions,
        "records": sum(state.rows for state in states),
        "bytes": sum(state.bytes for state in states),
        "retention": None if spec.retention is None else duration_text(spec.retention),
        "retention_bytes": spec.retention_bytes,
        "compacted": spec.compacted,
    }


def _description(log: Log, spec: TopicSpec) -> dict[str, Any]:
    states = log.partitions(spec.name)
    return _summary(log, spec) | {
        "time": spec.time,
        "keys": list(spec.keys),
        "columns": [{"name": each.name, "type": each.kind, "nullable": each.nullable} for each in spec.columns],
        "offsets": [
            {"partition": number, "start": state.start, "end": state.end, "records": state.rows, "bytes": state.bytes}
            for number, state in enumerate(states)
        ],
    }


def _list_row(row: dict[str, Any]) -> list[str]:
    retention = [row["retention"] or "for ever"]
    retention += [f"{size_text(row['retention_bytes'])} a partition"] if row["retention_bytes"] is not None else []
    compacted = "yes" if row["compacted"] else "no"
    return [
        row["topic"],
        str(row["partitions"]),
        f"{row['records']:,}",
        # Brokers do not tell.
        size_text(row["bytes"]) if row["bytes"] or not row["records"] else "-",
        ", ".join(retention),
        compacted,
    ]


def _described(found: dict[str, Any]) -> list[str]:
    """What is known of a topic, as text."""
    names = ("topic", "partitions", "records", "size", "retention", "compacted")
    settings = [*zip(names, _list_row(found), strict=True), ("time", found["time"] or ""), ("key", ", ".join(found["keys"]))]
    columns = [[each["name"], each["type"], "nullable" if each["nullable"] else ""] for each in found["columns"]]
    offsets = [[str(each[name]) for name in ("partition", "start", "end", "records", "bytes")] for each in found["offsets"]]
    return [
        *Columns(("setting", "value")).lines(settings),
        "",
        *Columns(("column", "type", "")).lines(columns),
        "",
        *Columns(("partition", "start", "end", "records", "bytes"), right=range(5)).lines(offsets),
    ]


def _shortened(text: str) -> str:
    """The beginning of a long text; `--json` prints all of it."""
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}... ({len(text):,})"


def size_text(size: int) -> str:
    """Bytes in a unit that is easy to read."""
    for power, name in enumerate(SIZES):
        if size < 1024 ** (power + 1) or name == SIZES[-1]:
            return f"{size} B" if not power else f"{size / 1024**power:.1f} {name}"
    raise AssertionError("the last unit takes all sizes")
