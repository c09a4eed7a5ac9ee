"""`kandle run`: makes live bars and finals until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from kandle.cli.contexts import ContextName, load_context, plans_in
from kandle.cli.data import AsJson, ConfigFile, DataFolder, LogChoice, options_of, place_of, with_section
from kandle.cli.log_output import LOGGER, log_to_standard_error
from kandle.cli.signals import stop_signals
from kandle.cli.values import json_line
from kandle.context.context import Context
from kandle.errors import ModelError, StateError
from kandle.plan.plan import Plan
from kandle.runtime.counters import Health, QueryHealth
from kandle.time.timeframe import MINUTE

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
