"""`kandle run`: makes live bars and finals until it is told to stop."""

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
from kandle.context.context import Context
from kandle.errors import ModelError, StateError
from kandle.plan.plan import Plan
from kandle.runtime.counters import Health, QueryHealth
from kandle.time.timeframe import MINUTE, SECOND

LOGGER = "kandle"
USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""Attributes that each record has; all others are what the caller gave with `extra`."""


class TextFormatter(logging.Formatter):
    """Time, level, message, then what else is known as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        details = " ".join(f"{name}={_text(value)}" for name, value in _details(record).items())
        return f"{_time(record)} {record.levelname.lower():<7} {record.getMessage()} {details}".rstrip()


class JsonFormatter(logging.Formatter):
    """The same as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        usual = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(usual | json_value(_details(record)), ensure_ascii=False, default=str)


def log_to_standard_error(*, as_json: bool) -> None:
    """Show what kandle logs from level INFO on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger = logging.getLogger(LOGGER)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    threading.excepthook = _log_error


def _log_error(what: threading.ExceptHookArgs) -> None:
    """An error that ended a thread is one line as well."""
    name = "a thread" if what.thread is None else what.thread.name
    logging.getLogger(LOGGER).error("%s has ended", name, extra={"error": f"{what.exc_type.__name__}: {what.exc_value}"})


def _time(record: logging.LogRecord) -> str:
    return iso_instant(round(record.created * 1000) * (SECOND // 1000))


def _details(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave, and the error if there is one."""
    given = {name: value for name, value in vars(record).items() if name not in USUAL}
    error = record.exc_info[1] if record.exc_info else None
    return given if error is None else given | {"error": f"{type(error).__name__}: {error}"}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(json_value(value), ensure_ascii=False, default=str)
    return json.dumps(text, ensure_ascii=False) if isinstance(value, str) and (" " in text or "\n" in text) else text


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event of the running loop that is set when one of the signals comes; the same signal again does what it usually does."""
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


LOOK_EVERY = 0.5
"""Seconds between two looks at the health of what runs."""

REPORT_EVERY = MINUTE
"""How often what was done is told, if anything was."""

logger = logging.getLogger(LOGGER)


def run_command(
    context: ContextName = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    log_choice: LogChoice = None,
    instance: Annotated[str | None, typer.Option("--instance", metavar="NAME", help="Name of this process in its group.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make bars of what comes in. Live bars and finals, until Ctrl-C or SIGTERM."""
    options = options_of(config, data, log_choice).model_copy(update={"access": "read_write"})
    options = with_section(options, "runtime", enabled=True, instance=instance or options.runtime.instance)
    market = load_context(context, options)(options)
    plans = plans_in(market)
    if not plans:
        raise ModelError(f"{type(market).__name__} has no query with a window over time, so there is nothing to run")
    log_to_standard_error(as_json=as_json)
    asyncio.run(_serve(market, _Announcement(market, plans, as_json=as_json)))


class _Announcement:
    """What runs, in a few lines."""

    def __init__(self, market: Context, plans: list[Plan], *, as_json: bool) -> None:
        self._market, self._plans, self._as_json = market, plans, as_json

    def show(self, instance: str) -> None:
        found = self._facts(instance)
        for line in [json_line(found)] if self._as_json else self._lines(found):
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
                    "source": each.query.source.name,
                    "target": each.query.target.name,
                    "bars": [{"timeframe": bar.name, "live": bar.live_topic, "final": bar.final_topic} for bar in each.emitted],
                }
                for each in self._plans
            ],
        }

    @staticmethod
    def _lines(found: dict[str, Any]) -> Iterator[str]:
        yield f"{found['context']} runs as {found['instance']}, {found['log']}"
        for query in found["queries"]:
            yield f"{query['target']} <- {query['source']}"
            width = max(len(bar["timeframe"]) for bar in query["bars"])
            for bar in query["bars"]:
                yield f"  {bar['timeframe']:<{width}}  {bar['live']}, {bar['final']}"
        yield "Ctrl-C stops it"


class Report:
    """Tells the log what queries have done since the start, when there is something new."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, health: Health) -> None:
        """One line for each query that has done something since the last time."""
        for query in health.queries:
            text = _done(query)
            if text != self._told.get(query.query, text if query.counters.commits == 0 else ""):
                logger.info("%s", text)
            self._told[query.query] = text


def _done(query: QueryHealth) -> str:
    counters = query.counters
    frames = counters.timeframes.values()
    finals, gaps = sum(each.finals for each in frames), sum(each.gaps for each in frames)
    dropped = [
        f"{count:,} {what}"
        for count, what in (
            (counters.late, "late"),
            (counters.outside_sessions, "outside of sessions"),
            (counters.rejected, "that cannot be read"),
        )
        if count
    ]
    events = ", ".join([f"{counters.events:,} events", *dropped])
    return f"{query.query}: {events}; {finals:,} finals, {gaps:,} of them gaps; lag {query.lag:,}"


async def _serve(market: Context, announcement: _Announcement) -> None:
    """Run until a signal comes or the worker fails; leaving the context hands everything over."""
    with stop_signals() as stopped:
        async with market:
            announcement.show(market.health().instance)
            report, due = Report(), market.clock.steady() + REPORT_EVERY
            while not stopped.is_set():
                _check(market)
                await _wait(stopped)
                if market.clock.steady() >= due:
                    report.tell(market.health())
                    due += REPORT_EVERY
            report.tell(market.health())


async def _wait(stopped: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopped.wait(), LOOK_EVERY)
    except TimeoutError:
        return


def _check(market: Context) -> None:
    """StateError if a worker has failed; one that only waits, for space on the disk say, goes on by itself."""
    if market.problem is not None:
        raise StateError(f"a worker has failed: {market.problem}") from market.problem
