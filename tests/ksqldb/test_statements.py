"""Statements, and what the server says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kandle.errors import KsqlError, KsqlUnavailableError, StateError
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.results import Command, ListedSource, UnknownResult
from kandle.ksqldb.settings import KsqlSettings
from tests.ksqldb.serving import Asked, Reply, Served
from tests.ksqldb.talking import always, told


def replied(content: object, status: int = 200) -> Reply:
    return Reply(status, [json.dumps(content).encode()])


def command(status: str, message: str = "") -> dict[str, Any]:
    return {
        "@type": "currentStatus",
        "statementText": "CREATE STREAM ...;",
        "commandId": "stream/`A`/create",
        "commandStatus": {"status": status, "message": message, "queryId": None},
        "warnings": [{"message": "beware"}],
    }


def carrying_out(*statuses: str) -> Callable[[Asked], Reply | None]:
    """A server whose statement has these states in turn, the first in the answer and the last for ever."""
    left = list(statuses)

    def answer(asked: Asked) -> Reply:
        status = left.pop(0) if len(left) > 1 else left[0]
        if asked.path == "/ksql":
            return replied([command(status)])
        return replied({"status": status, "message": f"now {status}", "queryId": "CSAS_A_1"})

    return answer


async def create(client: KsqlClient, served: Served) -> tuple[Any, list[str]]:
    return await client.execute("CREATE STREAM ...;"), served.paths


def test_execute_returns_when_the_statement_is_executed() -> None:
    (found,), paths = told(carrying_out("EXECUTING", "QUEUED", "EXECUTING", "SUCCESS"), create)
    assert found == Command("CREATE STREAM ...;", "stream/`A`/create", "SUCCESS", "now SUCCESS", "CSAS_A_1", ("beware",))
    assert paths == ["/ksql"] + ["/status/stream/%60A%60/create"] * 3


@pytest.mark.parametrize("statuses", [("ERROR",), ("EXECUTING", "ERROR")])
def test_a_statement_that_fails_is_an_error(statuses: tuple[str, ...]) -> None:
    with pytest.raises(KsqlError, match="stream/`A`/create failed") as caught:
        told(carrying_out(*statuses), create)
    assert caught.value.statement == "CREATE STREAM ...;"
    assert not isinstance(caught.value, KsqlUnavailableError)


def test_waiting_for_a_slow_statement_ends_after_patience() -> None:
    with pytest.raises(
        KsqlUnavailableError, match="stream/`A`/create is still EXECUTING after 100ms; the server continues with it"
    ):
        told(carrying_out("EXECUTING"), create, patience="100ms")


@pytest.mark.parametrize(
    "reply",
    [
        None,
        Reply(503, [b'{"@type":"generic_error","error_code":50303,"message":"The server is shutting down"}']),
        Reply(500, [b'{"@type":"statement_error","error_code":50000,"message":"Could not write the statement to the topic"}']),
    ],
)
def test_a_statement_that_may_have_arrived_is_never_sent_twice(reply: Reply | None) -> None:
    async def story(client: KsqlClient, served: Served) -> list[str]:
        with pytest.raises(KsqlUnavailableError, match="may have been executed or not, and is not sent again") as caught:
            await client.execute("INSERT INTO `a` VALUES (1);")
        assert caught.value.statement == "INSERT INTO `a` VALUES (1);"
        return served.paths

    assert told(always(reply), story) == ["/ksql"]


def flaky(times: int, then: Reply) -> Callable[[Asked], Reply | None]:
    left = [None] * times
    return lambda asked: left.pop() if left else then


INFO = {"KsqlServerInfo": {"version": "7.4.0", "kafkaClusterId": "k", "ksqlServiceId": "s_", "serverStatus": "RUNNING"}}
STREAMS = [{"@type": "streams", "statementText": "SHOW STREAMS;", "streams": []}]


def test_requests_that_only_read_are_repeated() -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        return (await client.info()).version, served.paths

    async def shown(client: KsqlClient, served: Served) -> object:
        return await client.streams(), served.paths

    assert told(flaky(2, replied(INFO)), story) == ("7.4.0", ["/info"] * 3)
    assert told(flaky(1, replied(STREAMS)), shown) == ((), ["/ksql"] * 2)
    with pytest.raises(KsqlUnavailableError, match="information about the server: broke the connection"):
        told(flaky(3, replied(INFO)), story)


def test_tables_are_shown_with_whether_they_are_windowed() -> None:
    found = {"type": "TABLE", "name": "Bars", "topic": "bars", "keyFormat": "AVRO", "valueFormat": "JSON", "isWindowed": True}

    async def story(client: KsqlClient, served: Served) -> object:
        return await client.tables()

    shown = told(always(replied([{"@type": "tables", "statementText": "SHOW TABLES;", "tables": [found]}])), story)
    assert shown == (ListedSource("Bars", "TABLE", "bars", "AVRO", "JSON", True),)


def test_a_refused_request_is_not_repeated() -> None:
    async def story(client: KsqlClient, served: Served) -> list[str]:
        with pytest.raises(KsqlError):
            await client.streams()
        return served.paths

    assert told(always(replied({"error_code": 40001, "message": "no"}, 400)), story) == ["/ksql"]


def test_an_unhealthy_server_is_not_an_error() -> None:
    ill = {
        "isHealthy": False,
        "details": {"kafka": {"isHealthy": False}, "metastore": {"isHealthy": True}},
        "serverState": "READY",
    }

    async def story(client: KsqlClient, served: Served) -> object:
        found = await client.health()
        return found.is_healthy, dict(found.parts)

    assert told(always(replied(ill, 500)), story) == (False, {"kafka": False, "metastore": True})


@pytest.mark.parametrize("version", ["", "latest"])
def test_an_invalid_version_is_an_error(version: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        return (await client.info()).release

    with pytest.raises(KsqlError, match=f"ksqlDB reports '{version}' as its version, which is not a number"):
        told(always(replied({"KsqlServerInfo": {**INFO["KsqlServerInfo"], "version": version}})), story)
    assert told(always(replied({"KsqlServerInfo": {**INFO["KsqlServerInfo"], "version": "0.29.0-rc1"}})), story) == (0, 29, 0)


@pytest.mark.parametrize("content", [{}, [], {"KsqlServerInfo": {}}, "x", {"KsqlServerInfo": None}])
def test_information_of_another_kind_of_server_is_an_error(content: object) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        return await client.info()

    with pytest.raises(KsqlError, match="instead of the expected JSON; check that the url is one of a ksqlDB"):
        told(always(replied(content)), story)


def test_a_result_of_an_unknown_kind_is_kept_as_received() -> None:
    entity = {"@type": "topicDescription", "statementText": "PRINT;", "extra": 1}
    (found,), _ = told(always(replied([entity])), create)
    assert found == UnknownResult("PRINT;", "topicDescription", entity)


def test_the_result_of_another_statement_is_an_error() -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        return await client.queries()

    with pytest.raises(KsqlError, match="instead of the result of this statement"):
        told(always(replied(STREAMS)), story)


def test_statements_that_were_executed_before_the_one_that_failed_are_counted() -> None:
    with pytest.raises(KsqlError, match=r"refuses: no \(code 40001\); 1 statements before it were executed"):
        told(always(replied({"error_code": 40001, "message": "no", "entities": [command("SUCCESS")]}, 400)), create)


@pytest.mark.parametrize("name", ["Q; DROP STREAM `a`", "", "a b"])
def test_an_invalid_id_of_a_query_is_not_sent(name: str) -> None:
    async def story(client: KsqlClient, served: Served) -> list[str]:
        with pytest.raises(KsqlError, match="is not the id of a query; queries"):
            await client.terminate(name)
        return served.paths

    assert told(always(None), story) == []


def test_a_client_is_used_while_it_is_open() -> None:
    async def story(client: KsqlClient, served: Served) -> None:
        with pytest.raises(StateError, match="async with KsqlClient"):
            await KsqlClient(KsqlSettings(served.url)).info()

    told(always(None), story)
