"""Finds the context class that a command line names, with one clear line for whatever stands in the way."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from kandle.context.context import Context, declared_sets, state_of
from kandle.context.opened import log_of
from kandle.context.options import DEFAULT_FILE, Options
from kandle.errors import KandleError, ModelError, OptionsError, StorageError
from kandle.log.embedded.database import FILE
from kandle.log.port import Log
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import to_instant

ContextName = Annotated[str | None, typer.Argument(metavar="CONTEXT", help="module:Class; else kandle.toml names it.")]

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
OWN_FOLDER = str(Path(__file__).resolve().parent.parent)


def is_context_name(text: str) -> bool:
    """Whether the text has the form `module.path:Class`."""
    return NAME.fullmatch(text) is not None


def load_context(name: str | None, options: Options | None = None) -> type[Context]:
    """The class named `module.path:Class`, else the one that the options name; the working folder is searched too.

    Without options, those of kandle.toml count.
    """
    named = name if name is not None else (options if options is not None else Options.load()).context
    if named is None:
        raise OptionsError(
            f'no context is named: write one, such as `app:Market`, or put `context = "app:Market"` into {DEFAULT_FILE}'
        )
    if not is_context_name(named):
        raise OptionsError(f"{named!r} names no context; write module.path:Class, such as app:Market")
    module_name, _, class_name = named.partition(":")
    return _class_of(_imported(module_name), class_name)


def entities_in(market: Context) -> list[EntityModel]:
    """The entities of a context as its options have them."""
    return [getattr(market, name).entity for name in declared_sets(type(market))]


def plans_in(market: Context) -> list[Plan]:
    """The plans of a context's queries over time."""
    plans = (state_of(market).plan_of(entity.cls) for entity in entities_in(market))
    return [found for found in plans if found is not None]


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ModelError(_missing(name, error.name)) from error
        raise ModelError(_failed(name, error)) from error
    except SystemExit as error:
        what = f'it ends the program (exit code {error.code}); put what is not a declaration below `if __name__ == "__main__":`'
        raise ModelError(f"module {name!r} cannot be imported: {what}{_place(error)}") from error
    except Exception as error:
        raise ModelError(_failed(name, error)) from error


def _missing(name: str, part: str) -> str:
    """That there is no such module, and which one may be meant."""
    there = sorted({path.stem for path in Path.cwd().iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()})
    close = difflib.get_close_matches(part, there, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    inside = f" (for {name})" if part != name else ""
    return f"there is no module {part!r}{inside} in {Path.cwd()} or among the installed packages{hint}"


def _failed(name: str, error: Exception) -> str:
    """What went wrong while the module was imported, and in which line of whose file."""
    kind = "" if isinstance(error, KandleError) else f"{type(error).__name__}: "
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"module {name!r} cannot be imported: {kind}{message}{_place(error)}"


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" ({_short(error.filename)}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", OWN_FOLDER)) and "importlib" not in frame.filename
    ]
    return f" ({_short(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""


def _short(file_name: str) -> str:
    path = Path(file_name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file_name


def _class_of(module: ModuleType, name: str) -> type[Context]:
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, Context):
        return found
    contexts = [
        each
        for each, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Context) and value is not Context
    ]
    close = difflib.get_close_matches(name, contexts, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    what = f"has no {name!r}" if found is None else f"has {name!r}, but that is no subclass of kandle.Context"
    raise ModelError(f"module {module.__name__!r} {what}{hint} (contexts there: {', '.join(contexts) or 'none'})")


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
