"""The command `kandle doctor`: checks everything that must be right, and advises what to do about the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

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
    declaration_findings,
    folder_findings,
    group_findings,
    integrity_findings,
    ksqldb_topics_of_queries,
    missing_of_before,
    newest_times,
    partition_findings,
    schedule_findings,
    topic_findings,
    topics_of_queries,
    wanted_topics,
)
from kandle.cli.output import json_line
from kandle.context.adapters import embedded_log, repair
from kandle.context.context import Context
from kandle.context.options import DEFAULT_FILE, Options
from kandle.context.topic_options import query_topic_settings, unfollowed_options
from kandle.errors import KandleError
from kandle.log.port import Log
from kandle.model.entity import snake_case
from kandle.plan.declaration import declaration
from kandle.plan.query_topics import QueryTopics, query_group
from kandle.plan.topics import TopicSpec

PROBLEM_CODE = 1
"""Exit code if there is a problem."""

MOST_LOST = 10
"""Lost items that a repair lists by name."""


def doctor_command(
    context: ContextName = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    log: LogChoice = None,
    is_repair: Annotated[
        bool, typer.Option("--repair", help="First save what can be saved of a damaged log; no process may use it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find problems, with advice.

    Checks configuration, model, data folder or cluster, schema registry, ksqlDB, topics, groups, schedule and clock. The exit
    code is 1 if there is a problem.

    Example: kandle doctor app:Market --log kafka://localhost:9092
    """
    if is_repair:
        _repair(options_of(config, data, log).log.path, as_json=as_json)
    levels = set()
    for finding in _findings(context, config, data, log):
        levels.add(finding.level)
        typer.echo(json_line(finding.to_dict()) if as_json else str(finding))
    if "problem" in levels:
        raise typer.Exit(PROBLEM_CODE)


def _repair(folder: Path, *, as_json: bool) -> None:
    result = repair(folder)
    if as_json:
        typer.echo(json_line({"kept": result.kept, "lost": list(result.lost), "backup": str(result.backup)}))
        return
    typer.echo(f"repaired: {result.kept:,} batches kept, {len(result.lost):,} lost; the damaged file is {result.backup}")
    for lost in result.lost[:MOST_LOST]:
        typer.echo(f"lost: {lost}")
    if len(result.lost) > MOST_LOST:
        typer.echo(f"lost: {len(result.lost) - MOST_LOST:,} more")


def _findings(context: str | None, config: Path | None, data: Path | None, choice: str | None) -> Iterator[Finding]:
    file = config if config is not None else Path(DEFAULT_FILE)
    try:
        options = options_of(config, data, choice)
    except KandleError as error:
        yield problem("configuration", str(error), "")
        return
    yield fine("configuration", f"{file} is valid" if file.exists() else f"there is no {file}, so defaults are used")
    market, finding = _load_market(context, options)
    yield finding
    yield from (warning("topics", text, "leave them out of the file for this machine") for text in unfollowed_options(options))
    if is_on_kafka(options):
        yield from _kafka_findings(options, market)
        return
    yield from folder_findings(options.log.path)
    if has_log(options.log.path):
        yield from _log_findings(options, market)


def _load_market(context: str | None, options: Options) -> tuple[Context | None, Finding]:
    """Return the context, not opened, or None, and a finding about it."""
    if context is None and options.context is None:
        advice = "name one: `kandle doctor app:Market`"
        return None, warning("context", "no context is named, so topics and schedule are not checked", advice)
    try:
        market = load_context(context, options)(options)
    except KandleError as error:
        return None, problem("context", str(error), "")
    names = ", ".join(entity.name for entity in entities_in(market)) or "none"
    bars = ", ".join(plan.query.target.name for plan in plans_in(market)) or "none"
    return market, fine("context", f"{type(market).__name__} has the entities {names}; queries make {bars}")


def _kafka_findings(options: Options, market: Context | None) -> Iterator[Finding]:
    # The Kafka client is an extra, so it is only loaded for a cluster.
    from kandle.cli import server_checks

    brokers = list(server_checks.broker_findings(options))
    yield from brokers
    are_reachable = brokers[0].level != "problem"
    if are_reachable or options.schema_registry.url is not None:
        yield from server_checks.registry_findings(options)
    if options.engine.kind == "ksqldb":
        yield from server_checks.ksqldb_findings(options, market)
    if not are_reachable:
        return
    yield from server_checks.replay_findings(options)
    # A cluster is shared with others: without a context nobody knows which topics are kandle's.
    if market is not None:
        try:
            with opened_log(options) as log:
                yield from _cluster_findings(log, options, market)
        except KandleError as error:
            yield problem("log", str(error), "")


def _cluster_findings(log: Log, options: Options, market: Context) -> Iterator[Finding]:
    from kandle.cli import server_checks

    declared = _declared_topics(log, options, market)
    names = {spec.name for spec in declared}
    yield from _topics_findings(log, options, market, declared)
    yield from server_checks.config_findings(options, declared)
    yield from server_checks.topic_access_findings(options, declared)
    yield from server_checks.group_access_findings(options, _groups(market))
    yield from schedule_findings(log, plans_in(market), clock_of(options))
    readers = options.consumer.group or snake_case(type(market).__name__)
    yield from group_findings(log, f"{readers}-", _groups(market))
    existing = [spec for spec in log.topics() if spec.name in names]
    yield from server_checks.event_time_findings(options, plans_in(market))
    yield from clock_findings(clock_of(options), server_checks.times_of_topics(options, existing))


def _log_findings(options: Options, market: Context | None) -> Iterator[Finding]:
    """Check the embedded log; a file that cannot be read is a problem, not an error."""
    clock = clock_of(options)
    try:
        log = embedded_log(options.log.path, clock)
    except KandleError as error:
        yield problem("log file", str(error), "")
        return
    try:
        integrity = list(integrity_findings(log, log.check()))
        yield from integrity
        if market is not None:
            yield from _topics_findings(log, options, market, _declared_topics(log, options, market))
            yield from schedule_findings(log, plans_in(market), clock)
        yield from group_findings(log)
        if all(finding.level == "ok" for finding in integrity):
            yield from clock_findings(clock, newest_times(log, log.topics()))
    except KandleError as error:
        yield problem("log file", str(error), "")
    finally:
        log.close()


def _groups(market: Context) -> list[str]:
    """Return the names of the consumer groups of all queries."""
    return [query_group(plan) for plan in plans_in(market)]


def _query_topics(log: Log, options: Options, market: Context) -> list[QueryTopics]:
    topics_of = ksqldb_topics_of_queries if options.engine.kind == "ksqldb" else topics_of_queries
    return topics_of(log, plans_in(market), query_topic_settings(options))


def _declared_topics(log: Log, options: Options, market: Context) -> list[TopicSpec]:
    return list(wanted_topics(entities_in(market), plans_in(market), _query_topics(log, options, market)))


def _topics_findings(log: Log, options: Options, market: Context, declared: Sequence[TopicSpec]) -> Iterator[Finding]:
    topics = _query_topics(log, options, market)
    settings = (options.engine.kind, options.heartbeat.settings, options.universe.expire_after)
    yield from declaration_findings(log, [(plan, declaration(plan, *settings)) for plan in plans_in(market)])
    yield from topic_findings(log, declared, missing_of_before(log, plans_in(market), topics))
    if options.engine.kind == "embedded":
        # With ksqlDB, the server decides the number of partitions.
        yield from partition_findings(log, topics, options.heartbeat.settings)
