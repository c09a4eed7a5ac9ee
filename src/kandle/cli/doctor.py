"""`kandle doctor`: looks at everything that must be right, and says what to do about what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kandle.cli.contexts import (
    AsJson,
    ConfigFile,
    ContextName,
    DataFolder,
    LogChoice,
    clock_of,
    entities_in,
    has_log,
    is_on_kafka,
    load_context,
    opened_log,
    options_of,
    plans_in,
)
from kandle.cli.findings import Finding, fine, problem, warning
from kandle.cli.log_checks import (
    clock_findings,
    folder_findings,
    group_findings,
    integrity_findings,
    missing_of_before,
    newest_times,
    partition_findings,
    schedule_findings,
    topic_findings,
    topics_of_queries,
    wanted_topics,
)
from kandle.cli.output import json_line
from kandle.context.context import Context
from kandle.context.options import DEFAULT_FILE, Options
from kandle.errors import KandleError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.embedded.repair import repair
from kandle.log.port import Log
from kandle.model.entity import snake_case
from kandle.plan.topics import QueryTopics, Retentions, TopicSpec

if TYPE_CHECKING:
    from kandle.ksqldb.results import Health, Query, ServerInfo

WELL = "RUNNING"


def ksqldb_findings(options: Options, market: Context | None) -> Iterator[Finding]:
    """Whether the server answers, is well, and runs the queries of the model."""
    try:
        info, health, queries = asyncio.run(_asked(options))
        doubt = info.doubt
    except KandleError as error:
        yield problem("ksqldb", str(error), "")
        return
    yield fine("ksqldb", f"version {info.version} at {options.ksqldb.url}, service {info.service_id}")
    if doubt is not None:
        yield warning("ksqldb", doubt, "")
    if not health.is_healthy:
        ill = [name for name, is_well in health.parts.items() if not is_well]
        yield problem("ksqldb", f"it is not well: {', '.join(ill) or health.state}", "look at its log")
    if market is not None:
        yield from _query_findings(market, queries)


async def _asked(options: Options) -> tuple[ServerInfo, Health, tuple[Query, ...]]:
    # The client library of HTTP is only loaded where it is needed.
    from kandle.context.ksqldb import ksql_settings
    from kandle.ksqldb.client import KsqlClient

    async with KsqlClient(ksql_settings(options)) as client:
        return await client.info(), await client.health(), await client.queries()


def _query_findings(market: Context, queries: tuple[Query, ...]) -> Iterator[Finding]:
    by_topic = {topic: query for query in queries for topic in query.topics}
    for plan in plans_in(market):
        topic = plan.base.live_topic
        query = by_topic.get(topic)
        if query is None:
            advice = "it is created when the context is opened; `kandle script --diff` says what is there"
            yield warning("ksqldb", f"no query fills {topic}", advice)
        elif query.state != WELL:
            yield problem("ksqldb", f"query {query.id}, which fills {topic}, is {query.state}", f"EXPLAIN {query.id}; says why")
        else:
            yield fine("ksqldb", f"query {query.id} fills {topic}")


PROBLEMS = 1
"""Exit code if there is a problem."""

MOST_LOST = 10


def doctor_command(
    context: ContextName = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    log: LogChoice = None,
    is_repair: Annotated[
        bool, typer.Option("--repair", help="Save what can be saved of a damaged log first; no process may use it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong and what to do about it.

    Looks at configuration, model, data folder or cluster, registry, ksqlDB, log, groups, schedule and clock; the exit code is 1
    if there is a problem.
    """
    if is_repair:
        _repair(options_of(config, data, log).log.path, as_json=as_json)
    levels = set()
    for finding in _findings(context, config, data, log):
        levels.add(finding.level)
        typer.echo(json_line(finding.to_dict()) if as_json else str(finding))
    if "problem" in levels:
        raise typer.Exit(PROBLEMS)


def _repair(folder: Path, *, as_json: bool) -> None:
    done = repair(folder)
    if as_json:
        typer.echo(json_line({"kept": done.kept, "lost": list(done.lost), "backup": str(done.backup)}))
        return
    typer.echo(f"repaired: {done.kept:,} batches kept, {len(done.lost):,} things lost; the damaged file is {done.backup}")
    for lost in done.lost[:MOST_LOST]:
        typer.echo(f"lost: {lost}")
    if len(done.lost) > MOST_LOST:
        typer.echo(f"lost: {len(done.lost) - MOST_LOST:,} more")


def _findings(context: str | None, config: Path | None, data: Path | None, choice: str | None) -> Iterator[Finding]:
    file = config if config is not None else Path(DEFAULT_FILE)
    try:
        options = options_of(config, data, choice)
    except KandleError as error:
        yield problem("configuration", str(error), "")
        return
    yield fine("configuration", f"{file} is valid" if file.exists() else f"there is no {file}, so defaults are used")
    market, finding = _market(context, options)
    yield finding
    if is_on_kafka(options):
        yield from _kafka_findings(options, market)
        return
    yield from folder_findings(options.log.path)
    if has_log(options.log.path):
        yield from _log_findings(options, market)


def _market(context: str | None, options: Options) -> tuple[Context | None, Finding]:
    """The context, not opened, and what is to be said of it."""
    if context is None and options.context is None:
        return None, warning(
            "context", "none is named, so topics and schedule are not checked", "name it: `kandle doctor app:Market`"
        )
    try:
        market = load_context(context, options)(options)
    except KandleError as error:
        return None, problem("context", str(error), "")
    names = ", ".join(entity.name for entity in entities_in(market))
    bars = ", ".join(plan.query.target.name for plan in plans_in(market)) or "nothing"
    what = f"{type(market).__name__} has {names or 'no entity'}, and makes bars of {bars}"
    return market, fine("context", what)


def _kafka_findings(options: Options, market: Context | None) -> Iterator[Finding]:
    """What is to be said of a cluster."""
    # The client library of Kafka is only loaded where there is a cluster.
    from kandle.cli.kafka_checks import (
        broker_findings,
        group_access_findings,
        registry_findings,
        replay_findings,
        times_of_topics,
        topic_access_findings,
    )

    found = list(broker_findings(options))
    yield from found
    are_there = found[0].level != "problem"
    if are_there or options.schema_registry.url is not None:
        yield from registry_findings(options)
    if options.engine.kind == "ksqldb":
        yield from ksqldb_findings(options, market)
    if not are_there:
        return
    yield from replay_findings(options)
    clock = clock_of(options)
    try:
        with opened_log(options) as log:
            # A cluster is shared with others: without a context nothing is known to be kandle's.
            if market is not None:
                specs = _wanted(log, options, market)
                yield from _topics_findings(log, options, market, specs)
                yield from topic_access_findings(options, specs)
                yield from group_access_findings(options, _groups(options, market))
                yield from schedule_findings(log, plans_in(market))
                yield from group_findings(log, f"{_group_name(options, market)}-")
                wanted = {spec.name for spec in specs}
                there = [spec for spec in log.topics() if spec.name in wanted]
                yield from clock_findings(clock, times_of_topics(options, there))
    except KandleError as error:
        yield problem("log", str(error), "")


def _log_findings(options: Options, market: Context | None) -> Iterator[Finding]:
    """What is to be said of the log; a file that cannot be read is a problem, not an error."""
    clock = clock_of(options)
    try:
        log = EmbeddedLog(options.log.path, clock)
    except KandleError as error:
        yield problem("log file", str(error), "")
        return
    try:
        found = list(integrity_findings(log))
        yield from found
        if market is not None:
            yield from _topics_findings(log, options, market, _wanted(log, options, market))
            yield from schedule_findings(log, plans_in(market))
        yield from group_findings(log)
        if all(each.level == "ok" for each in found):
            yield from clock_findings(clock, newest_times(log, log.topics()))
    except KandleError as error:
        yield problem("log file", str(error), "")
    finally:
        log.close()


def _group_name(options: Options, market: Context) -> str:
    return options.consumer.group or snake_case(type(market).__name__)


def _groups(options: Options, market: Context) -> list[str]:
    """The groups of the queries."""
    return [f"{_group_name(options, market)}-{each.query.target.topic}" for each in plans_in(market)]


def _wanted(log: Log, options: Options, market: Context) -> list[TopicSpec]:
    topics = _query_topics(log, options, market)
    return list(wanted_topics(entities_in(market), plans_in(market), topics))


def _query_topics(log: Log, options: Options, market: Context) -> list[QueryTopics]:
    return topics_of_queries(log, plans_in(market), _retentions(options), options.heartbeat.prefix)


def _topics_findings(log: Log, options: Options, market: Context, specs: Sequence[TopicSpec]) -> Iterator[Finding]:
    topics = _query_topics(log, options, market)
    yield from topic_findings(log, specs, missing_of_before(log, plans_in(market), topics))
    if options.engine.kind == "embedded":
        # Those of queries of ksqlDB have the partitions that it gives them.
        yield from partition_findings(log, topics)


def _retentions(options: Options) -> Retentions:
    return Retentions(live=options.runtime.live_retention, heartbeats=options.heartbeat.retention)
