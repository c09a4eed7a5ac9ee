"""The context class and the log that a command line names, and their shared options (`--config`, `--data`, `--log`)."""

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

from kandle.context.adapters import log_file, log_of
from kandle.context.context import Context, declared_sets, state_of
from kandle.context.options import DEFAULT_FILE, Options
from kandle.errors import KandleError, ModelError, OptionsError, StorageError, unknown_name
from kandle.log.port import Log
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.time.clock import Clock, ScaledClock, SystemClock
from kandle.time.timeframe import to_instant

ContextName = Annotated[str | None, typer.Argument(metavar="CONTEXT", help="module:Class [default: `context` in kandle.toml].")]

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
OWN_FOLDER = str(Path(__file__).resolve().parent.parent)


def is_context_name(text: str) -> bool:
    """Return whether a text has the form `module.path:Class`."""
    return NAME.fullmatch(text) is not None


def load_context(name: str | None, options: Options | None = None) -> type[Context]:
    """Import the context class `module.path:Class`; the working folder is searched too.

    Args:
        name: The name; None takes the one in the options.
        options: The options; None loads those of kandle.toml.

    Returns:
        The class.

    Raises:
        OptionsError: No context is named, or the name has another form.
        ModelError: The module or the class does not exist or cannot be imported.
    """
    named = name if name is not None else (options if options is not None else Options.load()).context
    if named is None:
        raise OptionsError(f'name a context, such as `app:Market`, or write `context = "app:Market"` into {DEFAULT_FILE}')
    if not is_context_name(named):
        raise OptionsError(f"{named!r} is not the name of a context; write module.path:Class, such as app:Market")
    module_name, _, class_name = named.partition(":")
    return _class_of(_imported(module_name), class_name)


def load_function(name: str) -> Any:
    """Import the function `module.path:function`; the working folder is searched too.

    Args:
        name: The name.

    Raises:
        OptionsError: The name has another form.
        ModelError: The module or the function does not exist.
    """
    if not is_context_name(name):
        raise OptionsError(f"{name!r} is not the name of a function; write module.path:function, such as app:handle")
    module_name, _, function_name = name.partition(":")
    module = _imported(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [other for other, value in vars(module).items() if callable(value) and not isinstance(value, type)]
        raise ModelError(unknown_name(f"module {module_name!r} has no function {function_name!r}", function_name, names))
    return function


def entities_in(market: Context) -> list[EntityModel]:
    """Return the entities of a context, with the settings of its options."""
    return [getattr(market, name).entity for name in declared_sets(type(market))]


def plans_in(market: Context) -> list[Plan]:
    """Return the plans of all queries of a context that have a window over time."""
    plans = (state_of(market).plan_of(entity.cls) for entity in entities_in(market))
    return [plan for plan in plans if plan is not None]


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ModelError(_missing_module(name, error.name)) from error
        raise ModelError(_failed_import(name, error)) from error
    except SystemExit as error:
        reason = f"it ends the program (exit code {error.code})"
        advice = 'move all code but declarations below `if __name__ == "__main__":`'
        raise ModelError(f"module {name!r} cannot be imported: {reason}{_source_line(error)}; {advice}") from error
    except Exception as error:
        raise ModelError(_failed_import(name, error)) from error


def _missing_module(name: str, part: str) -> str:
    """Return the message for a module that does not exist, with the one that may be meant."""
    modules = sorted({path.stem for path in Path.cwd().iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()})
    close = difflib.get_close_matches(part, modules, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    inside = f" (for {name})" if part != name else ""
    return f"there is no module {part!r}{inside} in {Path.cwd()} or among the installed packages{hint}"


def _failed_import(name: str, error: Exception) -> str:
    """Return the message for an error during an import, with the file and line of the user's code."""
    kind = "" if isinstance(error, KandleError) else f"{type(error).__name__}: "
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"module {name!r} cannot be imported: {kind}{message}{_source_line(error)}"


def _source_line(error: BaseException) -> str:
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
    value = getattr(module, name, None)
    if isinstance(value, type) and issubclass(value, Context):
        return value
    contexts = [
        other
        for other, candidate in vars(module).items()
        if isinstance(candidate, type) and issubclass(candidate, Context) and candidate is not Context
    ]
    close = difflib.get_close_matches(name, contexts, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    reason = f"has no {name!r}" if value is None else f"has {name!r}, but it is not a subclass of kandle.Context"
    raise ModelError(f"module {module.__name__!r} {reason}{hint} (its contexts: {', '.join(contexts) or 'none'})")


KINDS = ("embedded", "kafka")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help=f"Configuration file [default: {DEFAULT_FILE}].")
]
DataFolder = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the log [default: as configured].")]
LogChoice = Annotated[
    str | None,
    typer.Option("--log", metavar="LOG", help="embedded, kafka, or kafka://HOST:PORT [default: as configured]."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]


def options_of(config: Path | None, data: Path | None, log: str | None = None) -> Options:
    """Load the options of the configuration file and apply `--data` and `--log` to them."""
    options = Options.load(config if config is not None else DEFAULT_FILE)
    if log is not None:
        options = _with_log(options, log)
    return options if data is None else with_section(options, "log", path=data)


def _with_log(options: Options, log: str) -> Options:
    kind, is_address, bootstrap = log.partition("://")
    if kind not in KINDS or (is_address and (kind != "kafka" or not bootstrap)):
        raise OptionsError(f"--log {log} is not valid; write embedded, kafka or kafka://HOST:PORT")
    if is_address:
        options = with_section(options, "kafka", bootstrap=bootstrap)
    return with_section(options, "log", kind=kind)


def with_section(options: Options, section: str, **values: Any) -> Options:
    """Return the options with some values of one section replaced."""
    return options.model_copy(update={section: getattr(options, section).model_copy(update=values)})


def for_reading(options: Options) -> Options:
    """Return the options of a context that only reads and runs no queries."""
    return with_section(options, "runtime", enabled=False).model_copy(update={"access": "read_only"})


def clock_of(options: Options) -> Clock:
    """Return the clock that all processes of this log share."""
    clock = options.clock
    if clock.start is None or clock.since is None:
        return SystemClock()
    return ScaledClock(to_instant(clock.start), to_instant(clock.since), clock.speed)


def has_log(folder: Path) -> bool:
    """Return whether a folder contains a log."""
    return log_file(folder).is_file()


def is_on_kafka(options: Options) -> bool:
    """Return whether the log is a Kafka cluster."""
    return options.log.kind == "kafka"


def place_of(options: Options) -> str:
    """Return a description of the location of the log, for messages."""
    return f"Kafka at {options.kafka.bootstrap}" if is_on_kafka(options) else f"data in {options.log.path.absolute()}"


def check_log(options: Options) -> None:
    """Raise StorageError if the embedded log does not exist; brokers are only asked when records are read."""
    if is_on_kafka(options):
        return
    folder = options.log.path
    if not has_log(folder):
        reason = "contains no log" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        raise StorageError(f"the data folder {folder} {reason}; name another with --data, or create it with `kandle run`")


@contextmanager
def opened_log(options: Options) -> Iterator[Log]:
    """Open the log for reading; records are decoded as the context of the configuration declares them."""
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
