"""Checks of a ksqlDB: that it answers, is well, and has what the model needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from kandle.cli.contexts import plans_in
from kandle.cli.findings import Finding, fine, problem, warning
from kandle.context.context import Context
from kandle.context.options import Options
from kandle.errors import KandleError
from kandle.ksql.rest.results import Health, Query, ServerInfo

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
    from kandle.ksql.rest.client import KsqlClient

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
