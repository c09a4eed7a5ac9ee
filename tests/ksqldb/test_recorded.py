"""Every exchange that was recorded with a real server, through the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from kandle.errors import KsqlError
from kandle.ksql.types import decimal
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.http import Repeat
from kandle.ksqldb.results import Command, Notice, QueryList, SourceList
from kandle.ksqldb.rows import QueryRequest, Rows
from kandle.model.entity import entity_model
from tests.ksqldb.declarations import Bar, Tick
from tests.ksqldb.recorded import EXCHANGES, FILE, MISSING, Exchange, Replay
from tests.ksqldb.serving import Served
from tests.ksqldb.talking import told

pytestmark = pytest.mark.skipif(not FILE.exists(), reason=MISSING)

Case = Callable[[KsqlClient, Exchange], Awaitable[None]]
CASES: dict[str, Case] = {}

LATE = datetime(2026, 11, 22, 10, 1, tzinfo=UTC)
EARLY = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
EURUSD = Bar("b", "EURUSD", EARLY, Decimal("1.5"), Decimal("1.5"), Decimal("1.25"), Decimal("1.25"), 3)
EURUSD_LATE = Bar("b", "EURUSD", LATE, Decimal("1.75"), Decimal("1.75"), Decimal("1.75"), Decimal("1.75"), 3)
NZDUSD = Bar("b", "NZDUSD", EARLY, Decimal("0.5"), Decimal("0.5"), Decimal("0.25"), Decimal("0.5"), 12)


def case(name: str) -> Callable[[Case], Case]:
    def note(test: Case) -> Case:
        assert name not in CASES
        CASES[name] = test
        return test

    return note


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: f"{exchange.number}-{exchange.name}")
def test_the_client_reads_what_a_real_server_answers(exchange: Exchange) -> None:
    # The same question has had different answers at different times, so the server knows this exchange only.
    replay = Replay([exchange])

    async def story(client: KsqlClient, served: Served) -> None:
        await CASES[exchange.name](client, exchange)

    told(replay, story, http=exchange.http)
    assert replay.given == [exchange.number]


def test_no_exchange_is_left_out() -> None:
    assert len(EXCHANGES) == 49
    assert {exchange.name for exchange in EXCHANGES} == CASES.keys()


async def executed(client: KsqlClient, exchange: Exchange) -> Any:
    (asks,) = exchange.asks
    return await client.execute(asks["ksql"], asks["streamsProperties"])


@case("info")
async def info(client: KsqlClient, exchange: Exchange) -> None:
    found = await client.info()
    assert (found.version, found.release, found.service_id, found.status) == ("7.4.0", (7, 4, 0), "t_", "RUNNING")


@case("healthcheck")
async def healthcheck(client: KsqlClient, exchange: Exchange) -> None:
    found = await client.health()
    assert found.is_healthy and found.state == "READY"
    assert found.parts == {"metastore": True, "kafka": True, "commandRunner": True}


@case("cluster status")
async def cluster_status(client: KsqlClient, exchange: Exchange) -> None:
    (host,) = await client.cluster()
    assert (host.name, host.is_alive, host.updated) == ("127.0.0.1:28088", True, 1795370169576)


def succeeds(name: str, command: str, message: str, query: str | None = None) -> None:
    @case(name)
    async def run(client: KsqlClient, exchange: Exchange) -> None:
        (found,) = await executed(client, exchange)
        assert isinstance(found, Command) and found.status == "SUCCESS"
        assert (found.id, found.message, found.query_id) == (command, message, query)


CREATED = "Created query with ID CTAS_RECLIVE_1495"
succeeds("create stream", "stream/`RecTicks`/create", "Stream created")
succeeds("live bars ctas", "table/`RecLive`/create", CREATED, "CTAS_RECLIVE_1495")
succeeds("drop table and topic", "table/RecLive/drop", "Source `RecLive` (topic: rec_bars_1m_live) was dropped.")
succeeds("drop stream and topic", "stream/RecTicks/drop", "Source `RecTicks` (topic: rec_ticks) was dropped.")
succeeds("drop missing if exists", "stream/RecTicks/drop", "Source `RecTicks` does not exist.")


def refused(name: str, code: int, *fragments: str) -> None:
    @case(name)
    async def run(client: KsqlClient, exchange: Exchange) -> None:
        with pytest.raises(KsqlError) as caught:
            await executed(client, exchange)
        assert caught.value.code == code and caught.value.statement
        assert all(fragment in caught.value.message for fragment in fragments), caught.value.message


refused("timestamp column not quoted", 40001, "The TIMESTAMP column set in the WITH clause does not exist in the schema: 'TIME'")
refused("create stream that exists", 40001, "Cannot add stream 'RecTicks': A stream with the same name already exists")
refused("syntax error", 40001, "Syntax error at or near 'STREM' at line 1:8")
refused("unknown source", 40001, "Nope does not exist.")
refused("unknown function", 40001, "Can't find any functions with the name 'NOSUCH'")
refused("wrong argument types", 40001, "Function 'avg' does not accept parameters (DECIMAL(18, 6))")
refused("reserved word", 40001, "line 1:38: Syntax Error")
refused("month window", 40001, "line 1:94: Syntax Error")
refused("select sent to the statement endpoint", 40002, "PRINT", "send SELECT to pull or push")
refused("unknown property", 50000, "'no.such.property'")
refused("two statements, second bad", 40001, "Nope does not exist.")
refused("drop while read", 40001, "read from this source: [RecLive]")
refused("create or replace windowed table", 40001, "which is not upgradeable to")
refused("drop missing", 40001, "Stream RecTicks does not exist.")


@case("create stream if not exists")
async def exists(client: KsqlClient, exchange: Exchange) -> None:
    (found,) = await executed(client, exchange)
    assert isinstance(found, Notice)
    assert found.message == "Cannot add stream `RecTicks`: A stream with the same name already exists."


@case("insert values")
async def insert_values(client: KsqlClient, exchange: Exchange) -> None:
    assert await executed(client, exchange) == ()


@case("status of table")
async def status(client: KsqlClient, exchange: Exchange) -> None:
    found = await client.status("table/`RecLive`/create")
    assert (found.status, found.message, found.query_id) == ("SUCCESS", CREATED, "CTAS_RECLIVE_1495")


@case("status unknown")
async def status_unknown(client: KsqlClient, exchange: Exchange) -> None:
    with pytest.raises(KsqlError, match="Command not found") as caught:
        await client.status("table/`Nope`/create")
    assert caught.value.code == 40400


async def inserted(client: KsqlClient, exchange: Exchange) -> int:
    _, *lines = exchange.asks
    return await client.insert("RecTicks", [{name.strip("`"): value for name, value in line.items()} for line in lines])


@case("inserts stream")
async def inserts(client: KsqlClient, exchange: Exchange) -> None:
    assert await inserted(client, exchange) == 2


@case("inserts stream, names without backticks")
async def inserts_without_backticks(client: KsqlClient, exchange: Exchange) -> None:
    # The client never asks so, so the test does by itself.
    http = client._http
    stream = http.stream("insert")
    await stream.open(exchange.path, exchange.body.encode() if exchange.body else b"")
    assert b"Key field must be specified: broker" in (await stream.part() or b"")
    await stream.aclose()


@case("inserts stream with a bad row")
async def inserts_with_a_bad_row(client: KsqlClient, exchange: Exchange) -> None:
    with pytest.raises(KsqlError, match=r"insert into RecTicks, row 1: .*Integer into type TIMESTAMP") as caught:
        await inserted(client, exchange)
    assert caught.value.code == 40000


@case("inserts stream on http 1.1")
async def inserts_by_http1(client: KsqlClient, exchange: Exchange) -> None:
    with pytest.raises(KsqlError, match=r"only available when using HTTP2.*set http='2'") as caught:
        stream = client._http.stream("insert")
        try:
            await stream.open(exchange.path, (exchange.body or "").encode())
        finally:
            await stream.aclose()
    assert caught.value.code == 40004


def pulls(name: str, *bars: Bar) -> None:
    @case(name)
    async def run(client: KsqlClient, exchange: Exchange) -> None:
        (asks,) = exchange.asks
        rows = client.pull(Bar, asks["sql"], asks["properties"])
        found = [bar async for bar in rows]
        assert found == list(bars)
        assert rows.header is not None
        assert [column.name for column in rows.header.columns][:5] == ["broker", "symbol", "WINDOWSTART", "WINDOWEND", "start"]
        assert rows.header.columns[5].type == decimal(18, 6)
        assert all(bar.open.as_tuple().exponent == -6 for bar in found)


pulls("pull query, newline delimited", EURUSD, EURUSD_LATE)
pulls("pull query, http 1.1", EURUSD_LATE)
pulls("pull query, json array", EURUSD, EURUSD_LATE, NZDUSD)
pulls("pull query, no rows")


@case("pull query without key")
async def pull_without_key(client: KsqlClient, exchange: Exchange) -> None:
    (asks,) = exchange.asks
    assert [row async for row in client.pull(None, asks["sql"])] == [{"volume": 3}, {"volume": 3}, {"volume": 12}]


TICKS = [
    Tick("b", "EURUSD", datetime(2026, 11, 22, 10, 0, 1, tzinfo=UTC), Decimal("1.5"), 1),
    Tick("b", "EURUSD", datetime(2026, 11, 22, 10, 0, 31, tzinfo=UTC), Decimal("1.25"), 2),
    Tick("b", "EURUSD", datetime(2026, 11, 22, 10, 1, 1, tzinfo=UTC), Decimal("1.75"), 3),
]


@case("push query with limit")
async def push(client: KsqlClient, exchange: Exchange) -> None:
    (asks,) = exchange.asks
    async with client.push(Tick, asks["sql"], asks["properties"]) as rows:
        assert [tick async for tick in rows] == TICKS


@case("push query on the old endpoint")
async def push_on_the_old_endpoint(client: KsqlClient, exchange: Exchange) -> None:
    request = QueryRequest(exchange.path, (exchange.body or "").encode(), "query", entity_model(Tick), is_push=True)
    rows: Rows[Tick] = Rows(client._http, request, lambda rows: None)
    assert [tick async for tick in rows] == TICKS[:2]


def query_refused(name: str, fragment: str) -> None:
    @case(name)
    async def run(client: KsqlClient, exchange: Exchange) -> None:
        (asks,) = exchange.asks
        with pytest.raises(KsqlError) as caught:
            await client.push(None, asks["sql"], asks["properties"]).begin()
        assert caught.value.code == 40001 and fragment in caught.value.message
        assert caught.value.statement == asks["sql"]


query_refused("query on a missing source", "Nope does not exist.")
query_refused("query with a syntax error", "Did you mean 'SELECT'?")


@case("show streams")
async def show_streams(client: KsqlClient, exchange: Exchange) -> None:
    ticks, log = await client.streams()
    assert (ticks.name, ticks.kind, ticks.topic, ticks.key_format, ticks.is_windowed) == (
        "RecTicks",
        "STREAM",
        "rec_ticks",
        "AVRO",
        False,
    )
    assert (log.name, log.value_format) == ("KSQL_PROCESSING_LOG", "JSON")


@case("show queries")
async def show_queries(client: KsqlClient, exchange: Exchange) -> None:
    (query,) = await client.queries()
    assert (query.id, query.sinks, query.topics) == ("CTAS_RECLIVE_1495", ("RecLive",), ("rec_bars_1m_live",))
    assert (query.kind, query.state, query.counts) == ("PERSISTENT", "RUNNING", {"RUNNING": 1})


@case("describe")
async def describe(client: KsqlClient, exchange: Exchange) -> None:
    found = await client.describe("RecLive")
    assert (found.name, found.kind, found.topic, found.window, found.partitions) == (
        "RecLive",
        "TABLE",
        "rec_bars_1m_live",
        "TUMBLING",
        2,
    )
    assert [column.name for column in found.columns if column.is_key] == ["broker", "symbol"]
    assert {column.name: str(column.type) for column in found.columns}["open"] == "DECIMAL(18,6)"
    assert [query.id for query in found.writers] == ["CTAS_RECLIVE_1495"] and found.readers == ()


@case("explain")
async def explain(client: KsqlClient, exchange: Exchange) -> None:
    found = await client.explain("CTAS_RECLIVE_1495")
    assert (found.sources, found.sinks, found.state, found.problems) == (("RecTicks",), ("RecLive",), "RUNNING", ())
    assert found.group == "_confluent-ksql-t_query_CTAS_RECLIVE_1495"
    assert found.properties == {"auto.offset.reset": "earliest"}


@case("terminate")
async def terminate(client: KsqlClient, exchange: Exchange) -> None:
    await client.terminate("CTAS_RECLIVE_1495")


@case("terminate unknown")
async def terminate_unknown(client: KsqlClient, exchange: Exchange) -> None:
    with pytest.raises(KsqlError, match="Unknown queryId: NO_SUCH_QUERY_1"):
        await client.terminate("NO_SUCH_QUERY_1")


@case("close unknown query")
async def close_unknown(client: KsqlClient, exchange: Exchange) -> None:
    with pytest.raises(KsqlError, match="No query with id nope"):
        await client._http.json("POST", exchange.path, {"queryId": "nope"}, "end of query", Repeat.UNSENT)


@case("not found")
async def not_found(client: KsqlClient, exchange: Exchange) -> None:
    with pytest.raises(KsqlError, match=r"HTTP 404 and '<html>.*Resource not found.*there is no ksqlDB under this url") as caught:
        await client._http.json("GET", exchange.path, None, "nothing", Repeat.ALWAYS)
    assert caught.value.code == 40400


def test_statements_that_show_have_results_of_their_own() -> None:
    found = {exchange.name: exchange for exchange in EXCHANGES}

    async def story(client: KsqlClient, served: Served) -> None:
        assert isinstance((await executed(client, found["show streams"]))[0], SourceList)
        assert isinstance((await executed(client, found["show queries"]))[0], QueryList)

    told(Replay(), story)
