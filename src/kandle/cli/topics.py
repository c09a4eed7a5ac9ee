"""The command `kandle topics`: the topics of the log, their settings, and their newest records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import polars as pl
import typer

from kandle.cli.contexts import AsJson, ConfigFile, DataFolder, LogChoice, opened_log, options_of
from kandle.cli.output import Columns, cell, iso_instant, json_line, logical, printable
from kandle.context.options import DEFAULT_FILE, Options
from kandle.log.headers import raw_header_rows
from kandle.log.port import Log, TopicPartition
from kandle.log.records import Batch
from kandle.plan.topics import TopicSpec, has_letters
from kandle.time.timeframe import SECOND, duration_text

ROWS_AT_ONCE = 20_000


class Tail:
    """A reader of new records of several topics that remembers its position in each partition."""

    def __init__(self, log: Log, positions: dict[TopicPartition, int]) -> None:
        self._log = log
        self._positions = dict(positions)

    @classmethod
    def at_end(cls, log: Log, topics: Iterable[str]) -> Tail:
        """Return a reader of the records that are appended from now on."""
        return cls(log, {partition: end for topic in topics for partition, _, end in bounds(log, topic)})

    @classmethod
    def at_start(cls, log: Log, topics: Iterable[str]) -> Tail:
        """Return a reader that starts with the oldest records."""
        return cls(log, {partition: start for topic in topics for partition, start, _ in bounds(log, topic)})

    def read(self) -> list[Batch]:
        """Return all records that were appended since the last call."""
        return [batch for partition in list(self._positions) for batch in self._read(partition)]

    def _read(self, partition: TopicPartition) -> Iterator[Batch]:
        while batches := self._log.read(partition, self._positions[partition], ROWS_AT_ONCE):
            yield from batches
            self._positions[partition] = batches[-1].next_offset

    def follow(self, interval: int = SECOND) -> Iterator[list[Batch]]:
        """Yield new records without end; waits for appends, at most `interval` microseconds at a time."""
        while True:
            if batches := self.read():
                yield batches
            self._log.wait(interval)


def bounds(log: Log, topic: str) -> list[tuple[TopicPartition, int, int]]:
    """Return each partition of a topic with its offsets `[start, end)`."""
    return [(TopicPartition(topic, number), state.start, state.end) for number, state in enumerate(log.partitions(topic))]


def newest(log: Log, topic: str, count: int) -> list[Batch]:
    """Return at least the last `count` records of a topic, in the order of the offsets within each partition."""
    return [batch for partition, start, end in bounds(log, topic) for batch in _newest(log, partition, start, end, count)]


def _newest(log: Log, partition: TopicPartition, start: int, end: int, count: int) -> list[Batch]:
    """Return the last records of a partition; looks further back while compaction has removed too many of them."""
    reach = max(count, 1)
    while True:
        begin = max(start, end - reach)
        batches = Tail(log, {partition: begin}).read()
        if begin == start or sum(map(len, batches)) >= count:
            return batches
        reach *= 8


def records(log: Log, batches: Iterable[Batch]) -> list[dict[str, Any]]:
    """Return partition, offset, timestamp, headers and value of each record, in the order of the timestamps.

    Of several headers with one name it is the last.
    """
    rows = [row for batch in batches for row in _records(log, batch)]
    return sorted(rows, key=lambda row: (row["timestamp"], row["partition"], row["offset"]))


def _records(log: Log, batch: Batch) -> Iterator[dict[str, Any]]:
    frame = logical(log.topic(batch.topic), batch.records.frame)
    removed = batch.records.tombstones
    gone = [False] * len(batch) if removed is None else removed.to_list()
    columns = (
        *(batch.offsets.tolist(), batch.timestamps.tolist(), raw_header_rows(batch.records)),
        *(gone, frame.iter_rows(named=True)),
    )
    spec = log.topic(batch.topic)
    keys = spec.keys
    raw = [column.name for column in spec.columns if column.physical == pl.Binary]
    for offset, timestamp, headers, is_gone, value in zip(*columns, strict=True):
        yield {
            "partition": batch.partition,
            "offset": offset,
            "timestamp": iso_instant(timestamp),
            "headers": {name: as_text(value) for name, value in headers},
            "tombstone": is_gone,
            "value": {name: value[name] for name in keys} if is_gone else value | {name: as_text(value[name]) for name in raw},
        }


def as_text(value: bytes | None) -> str | dict[str, bytes] | None:
    """Return bytes as the text that they are, such as a record of JSON; others under the name `base64`, as JSON shows them."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": value}
    return text if all(character.isprintable() or character in "\t\r\n" for character in text) else {"base64": value}


def all_records(log: Log, topic: str) -> pl.DataFrame:
    """Return all records of a topic with logical values and the columns `_partition`, `_offset`, `_appended` (microseconds)."""
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
    """Show the topics of the log.

    Their settings, columns and newest records.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@topics_app.command("list")
def list_command(
    config: ConfigFile = None, data: DataFolder = None, log_choice: LogChoice = None, as_json: AsJson = False
) -> None:
    """List all topics with sizes and settings."""
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
    """Show settings, columns, key and offsets of a topic."""
    with opened_log(options_of(config, data, log_choice)) as log:
        description = _description(log, log.topic(topic))
    if as_json:
        typer.echo(json_line(description))
        return
    for line in _description_lines(description):
        typer.echo(line)


@topics_app.command("tail")
def tail_command(  # noqa: PLR0913 - options of a command line
    topic: TopicName,
    count: Annotated[int, typer.Option("-n", "--last", min=0, metavar="N", help="Number of records.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new records until Ctrl-C.")] = False,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest records of a topic.

    With partition, offset, timestamp, key, value and headers.

    Example: kandle topics tail ticks -n 5 --follow
    """
    options = options_of(config, data, log_choice)
    with opened_log(options) as log:
        spec = log.topic(topic)
        printer = _RecordPrinter(spec, as_json=as_json)
        tail = Tail.at_end(log, [topic])
        # The end is noted before the newest records are read, so that none is missed; the printer skips those read twice.
        batches = newest(log, topic, count) if count else []
        printer.show(records(log, batches)[-count:])
        _report_unreadable(batches, options)
        if follow:
            for batches in tail.follow():
                printer.show(records(log, batches))
                _report_unreadable(batches, options)


def _report_unreadable(batches: Sequence[Batch], options: Options) -> None:
    """Report records that do not fit the known formats on standard error."""
    unreadable = [(batch, reject) for batch in batches for reject in batch.rejects]
    if not unreadable:
        return
    batch, first = unreadable[0]
    is_declared = options.context is not None
    advice = "" if is_declared else f'; name the context that declares the topic in {DEFAULT_FILE}: context = "app:Market"'
    typer.echo(
        f"kandle: unreadable records of {batch.topic}: {len(unreadable)}; the first is at partition {batch.partition}, "
        f"offset {first.offset}: {first.reason}{advice}",
        err=True,
    )


class _RecordPrinter:
    """Prints each record once, as JSON or in columns."""

    def __init__(self, spec: TopicSpec, *, as_json: bool) -> None:
        self._names = [column.name for column in spec.columns]
        numeric = [position for position, column in enumerate(spec.columns, 3) if column.physical.is_numeric()]
        self._is_of_letters = has_letters(spec)
        if self._is_of_letters:
            # The rest is for `kandle dlq show`.
            self._names, numeric = ["kind", "record", "key", "error_class", "error", "payload"], []
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
        content = row["value"]
        if self._is_of_letters:
            content = content | {"record": f"{content['topic']}/{content['partition']}/{content['offset']}"}
        values = [shortened(cell(content.get(name))) for name in self._names]
        headers = " ".join(f"{printable(name)}={cell(value)}" for name, value in row["headers"].items())
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
        "columns": [{"name": column.name, "type": column.kind, "nullable": column.nullable} for column in spec.columns],
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
        # Brokers do not report sizes.
        size_text(row["bytes"]) if row["bytes"] or not row["records"] else "-",
        ", ".join(retention),
        compacted,
    ]


def _description_lines(description: dict[str, Any]) -> list[str]:
    """Format a description as lines of text."""
    names = ("topic", "partitions", "records", "size", "retention", "compacted")
    settings = [
        *zip(names, _list_row(description), strict=True),
        ("time", description["time"] or ""),
        ("key", ", ".join(description["keys"])),
    ]
    columns = [[column["name"], column["type"], "nullable" if column["nullable"] else ""] for column in description["columns"]]
    fields = ("partition", "start", "end", "records", "bytes")
    offsets = [[str(offset[name]) for name in fields] for offset in description["offsets"]]
    return [
        *Columns(("setting", "value")).lines(settings),
        "",
        *Columns(("column", "type", "")).lines(columns),
        "",
        *Columns(fields, right=range(5)).lines(offsets),
    ]


def shortened(text: str) -> str:
    """Cut a long text; `--json` prints all of it."""
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}... ({len(text):,})"


def size_text(size: int) -> str:
    """Format a number of bytes in a unit that is easy to read."""
    for power, name in enumerate(SIZES):
        if size < 1024 ** (power + 1) or name == SIZES[-1]:
            return f"{size} B" if not power else f"{size / 1024**power:.1f} {name}"
    raise AssertionError("the last unit takes all sizes")
