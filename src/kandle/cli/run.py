"""The command `kandle run`: makes live and final bars until it is stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from kandle.cli.contexts import (
    AsJson,
    ConfigFile,
    ContextName,
    DataFolder,
    LogChoice,
    load_context,
    options_of,
    place_of,
    plans_in,
    with_section,
)
from kandle.cli.output import iso_instant, json_line, json_value
from kandle.context.context import Context, state_of
from kandle.context.options import Options
from kandle.context.sections import checked_begin
from kandle.errors import ModelError, OptionsError, StateError
from kandle.plan.plan import Plan
from kandle.runtime.counters import Health, QueryHealth
from kandle.time.timeframe import MINUTE, SECOND

LOGGER = "kandle"
STANDARD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes of every log record; all others were passed by the caller with `extra`."""


class TextFormatter(logging.Formatter):
    """Formatter for people: time, level, message, then the details as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        details = " ".join(f"{name}={_text(value)}" for name, value in _details(record).items())
        return f"{_time(record)} {record.levelname.lower():<7} {record.getMessage()} {details}".rstrip()


class JsonFormatter(logging.Formatter):
    """Formatter for machines: one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        standard = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(standard | json_value(_details(record)), ensure_ascii=False, default=str)


def log_to_standard_error(*, as_json: bool) -> None:
    """Send log records of kandle of level INFO and above to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger = logging.getLogger(LOGGER)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    threading.excepthook = _log_error


def _log_error(arguments: threading.ExceptHookArgs) -> None:
    """Log an error that ended a thread in one line."""
    name = "a thread" if arguments.thread is None else arguments.thread.name
    error = f"{arguments.exc_type.__name__}: {arguments.exc_value}"
    logging.getLogger(LOGGER).error("%s has ended", name, extra={"error": error})


def _time(record: logging.LogRecord) -> str:
    return iso_instant(round(record.created * 1000) * (SECOND // 1000))


def _details(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the caller passed with `extra`, and the error if there is one."""
    details = {name: value for name, value in vars(record).items() if name not in STANDARD_ATTRIBUTES}
    error = record.exc_info[1] if record.exc_info else None
    return details if error is None else details | {"error": f"{type(error).__name__}: {error}"}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(json_value(value), ensure_ascii=False, default=str)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) and (" " in text or "\n" in text) else text


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """Give an event that SIGINT and SIGTERM set; a second signal of the same kind has its usual effect."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        loop.call_soon_threadsafe(stopped.set)

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


CHECK_INTERVAL = 0.5
"""Seconds between two checks for failed workers."""

REPORT_INTERVAL = MINUTE
"""How often progress is logged, in microseconds, if there was any."""

logger = logging.getLogger(LOGGER)


def run_command(  # noqa: PLR0913 - each is an option of the command
    context: ContextName = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", metavar="NAME", help="Name of this process in its group; default: host name and process id."),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option("--replace", metavar="BARS", help="Bars whose changed declaration replaces the former one."),
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="T", help="Where it begins: an instant, or latest [default: where the former one stood]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make live and final bars until it is stopped.

    Runs the queries of a context until Ctrl-C or SIGTERM. Any number of processes may share the work.

    Example: kandle run app:Market --log kafka://localhost:9092
    """
    options = options_of(config, data, log_choice).model_copy(update={"access": "read_write"})
    options = with_section(options, "runtime", enabled=True, instance=instance or options.runtime.instance)
    options = _with_replacement(options, replace, begin)
    market = load_context(context, options)(options)
    plans = plans_in(market)
    if not plans:
        raise ModelError(
            f"{type(market).__name__} has no query with a window over time, so there is nothing to run; "
            "give an entity a query with .tumbling(...)"
        )
    log_to_standard_error(as_json=as_json)
    asyncio.run(_serve(market, _Announcement(market, plans, as_json=as_json), len(plans)))


def _with_replacement(options: Options, bars: list[str] | None, begin: str | None) -> Options:
    if begin is not None and not bars:
        raise OptionsError("--from says where a replaced declaration begins: name its bars with --replace")
    if not bars:
        return options
    try:
        instant = None if begin is None else checked_begin(begin)
    except ValueError as error:
        raise OptionsError(f"--from {begin}: {error}") from None
    return with_section(options, "runtime", replace=tuple(bars), replace_from=instant)


class _Announcement:
    """The first lines of output: what runs, and the topics that it writes."""

    def __init__(self, market: Context, plans: list[Plan], *, as_json: bool) -> None:
        self._market, self._plans, self._as_json = market, plans, as_json

    def show(self, instance: str) -> None:
        facts = self._facts(instance)
        for line in [json_line(facts)] if self._as_json else self._lines(facts):
            typer.echo(line)

    def _facts(self, instance: str) -> dict[str, Any]:
        cls = type(self._market)
        return {
            "context": f"{cls.__module__}:{cls.__qualname__}",
            "instance": instance,
            "log": place_of(self._market.options),
            "data": str(self._market.options.log.path.absolute()),
            "queries": [
                {
                    "source": plan.query.source.name,
                    "target": plan.query.target.name,
                    "bars": [{"timeframe": bar.name, "live": bar.live_topic, "final": bar.final_topic} for bar in plan.emitted],
                }
                for plan in self._plans
            ],
        }

    @staticmethod
    def _lines(facts: dict[str, Any]) -> Iterator[str]:
        yield f"{facts['context']} runs as {facts['instance']}, {facts['log']}"
        for query in facts["queries"]:
            yield f"{query['target']} <- {query['source']}"
            width = max(len(bar["timeframe"]) for bar in query["bars"])
            for bar in query["bars"]:
                yield f"  {bar['timeframe']:<{width}}  {bar['live']}, {bar['final']}"
        yield "Press Ctrl-C to stop"


class ProgressReport:
    """Logs what the queries have done since the start, whenever something was added."""

    def __init__(self) -> None:
        self._logged: dict[str, str] = {}

    def log(self, health: Health) -> None:
        """Log one line for each query that has made progress since the last call."""
        for query in health.queries:
            text = _progress_of(query)
            if text != self._logged.get(query.query, text if query.counters.commits == 0 else ""):
                logger.info("%s", text)
            self._logged[query.query] = text


def _progress_of(query: QueryHealth) -> str:
    counters = query.counters
    frames = counters.timeframes.values()
    finals, gaps = sum(frame.finals for frame in frames), sum(frame.gaps for frame in frames)
    dropped = [
        f"{count:,} {reason}"
        for count, reason in (
            (counters.late, "late"),
            (counters.outside_sessions, "outside sessions"),
            (counters.dead_letters, "dead letters"),
            (counters.removed, "removed by retention before they were read"),
        )
        if count
    ]
    events = ", ".join([f"{counters.events:,} events", *dropped])
    return f"{query.query}: {events}; {finals:,} finals, {gaps:,} of them gaps; lag {query.lag:,}"


async def _serve(market: Context, announcement: _Announcement, queries: int) -> None:
    """Run until a signal arrives or all workers have failed; leaving the context hands its partitions over."""
    with stop_signals() as stopped:
        async with market:
            announcement.show(market.health().instance)
            clock = state_of(market).clock
            report, due = ProgressReport(), clock.steady() + REPORT_INTERVAL
            failed: dict[str, BaseException] = {}
            while not stopped.is_set() and len(failed) < queries:
                await _wait(stopped)
                _note_failures(market, failed, queries)
                if clock.steady() >= due:
                    report.log(market.health())
                    due += REPORT_INTERVAL
            _note_failures(market, failed, queries)
            report.log(market.health())
    if failed:
        raise StateError(f"a worker has failed: {'; '.join(f'{name}: {error}' for name, error in failed.items())}")


async def _wait(stopped: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopped.wait(), CHECK_INTERVAL)
    except TimeoutError:
        return


def _note_failures(market: Context, failed: dict[str, BaseException], queries: int) -> None:
    """Add the errors of queries that have failed, and log what goes on; one that waits, for a disk say, goes on by itself."""
    problems = state_of(market).opened.problems
    for name in problems.keys() - failed.keys():
        logger.error("%s has failed; %d of %d queries go on", name, queries - len(problems), queries)
    failed |= problems
