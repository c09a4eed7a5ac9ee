"""Finds the log that a command line means, and opens it without ever making one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kandle.cli.contexts import entities_in, load_context, plans_in
from kandle.context.opened import log_of
from kandle.context.options import DEFAULT_FILE, Options
from kandle.errors import OptionsError, StorageError
from kandle.log.database import FILE
from kandle.log.port import Log
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import to_instant

KINDS = ("embedded", "kafka")

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=f"Configuration; else {DEFAULT_FILE}.")]
DataFolder = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the log; else the configuration's.")]
LogChoice = Annotated[
    str | None,
    typer.Option("--log", metavar="LOG", help="embedded, kafka, or kafka://HOST:PORT; else the configuration's."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def options_of(config: Path | None, data: Path | None, log: str | None = None) -> Options:
    """Options of the configuration file, with the log and the data folder of the command line if they are named."""
    options = Options.load(config if config is not None else DEFAULT_FILE)
    if log is not None:
        options = _with_log(options, log)
    return options if data is None else with_section(options, "log", path=data)


def _with_log(options: Options, log: str) -> Options:
    kind, is_address, bootstrap = log.partition("://")
    if kind not in KINDS or (is_address and (kind != "kafka" or not bootstrap)):
        raise OptionsError(f"--log {log} is not known; there are embedded, kafka and kafka://HOST:PORT")
    if is_address:
        options = with_section(options, "kafka", bootstrap=bootstrap)
    return with_section(options, "log", kind=kind)


def with_section(options: Options, section: str, **values: Any) -> Options:
    """The options with other values in one section; what else is said in it stays."""
    return options.model_copy(update={section: getattr(options, section).model_copy(update=values)})


def for_reading(options: Options) -> Options:
    """The options of a context that only reads and runs nothing."""
    return with_section(options, "runtime", enabled=False).model_copy(update={"access": "read_only"})


def clock_of(options: Options) -> Clock:
    """The clock that all processes of this log go by."""
    clock = options.clock
    if clock.start is None or clock.since is None:
        return SystemClock()
    return ScaledClock(to_instant(clock.start), to_instant(clock.since), clock.speed)


def has_log(folder: Path) -> bool:
    """Whether there is a log in the folder."""
    return (folder / FILE).is_file()


def is_on_kafka(options: Options) -> bool:
    """Whether the log is a cluster's."""
    return options.log.kind == "kafka"


def place_of(options: Options) -> str:
    """Where the log is, for messages."""
    return f"Kafka at {options.kafka.bootstrap}" if is_on_kafka(options) else f"data in {options.log.path.absolute()}"


def check_log(options: Options) -> None:
    """StorageError if there is no log to read; brokers are asked when they are."""
    if is_on_kafka(options):
        return
    folder = options.log.path
    if not has_log(folder):
        what = "has no log" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        raise StorageError(f"the data folder {folder} {what}; name another with --data, or make it with `kandle run`")


@contextmanager
def opened_log(options: Options) -> Iterator[Log]:
    """The log, for reading; formats are those of the context that the configuration names."""
    check_log(options)
    entities, plans = [], []
    if options.context is not None:
        market = load_context(None, options)(options)
        entities, plans = entities_in(market), plans_in(market)
    log = log_of(options, clock_of(options), entities, plans)
    try:
        yield log
    finally:
        log.close()
