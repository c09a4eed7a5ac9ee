"""Finds the data folder that a command line means, and opens the log in it without ever making one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kandle.context.options import DEFAULT_FILE, Options
from kandle.errors import StorageError
from kandle.log.database import FILE
from kandle.log.embedded import EmbeddedLog
from kandle.log.port import Log
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import to_instant

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help=f"Configuration; else {DEFAULT_FILE}.")]
DataFolder = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the log; else the configuration's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def options_of(config: Path | None, data: Path | None) -> Options:
    """Options of the configuration file, with the data folder of the command line if one is named."""
    options = Options.load(config if config is not None else DEFAULT_FILE)
    return options if data is None else with_section(options, "log", path=data)


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


def check_log(options: Options) -> None:
    """StorageError if there is no log to read."""
    folder = options.log.path
    if not has_log(folder):
        what = "has no log" if folder.is_dir() else "does not exist"
        raise StorageError(f"the data folder {folder} {what}; name another with --data, or make it with `kandle run`")


@contextmanager
def opened_log(options: Options) -> Iterator[Log]:
    """The log of the data folder, for reading."""
    check_log(options)
    log = EmbeddedLog(options.log.path, clock_of(options))
    try:
        yield log
    finally:
        log.close()
