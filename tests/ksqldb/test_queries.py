"""Pull and push queries: rows as they come, ends of every kind, and that nothing is left running."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from anyio.from_thread import start_blocking_portal

from kandle.errors import DataError, KsqlError, KsqlUnavailableError
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.settings import KsqlSettings
from tests.ksqldb.declarations import Tick
from tests.ksqldb.serving import Asked, Reply, Served, Then, serving
from tests.ksqldb.talking import HEADER, PATIENT, always, rows, told

BOTH = pytest.mark.parametrize("http", ["1.1", "2"])
WORDS = ["one", "zwölf", "\u4e09", "\U0001f600"]
BODY = HEADER + b"".join(json.dumps([n, word], ensure_ascii=False).encode() + b"\n" for n, word in enumerate(WORDS))
FOUND = [{"n": n, "text": word} for n, word in enumerate(WORDS)]


async def pulled(client: KsqlClient, served: Served) -> list[dict[str, object]]:
    return [row async for row in client.pull(None, "SELECT * FROM `t`;")]


def in_turn(*replies: Reply | None) -> Callable[[Asked], Reply | None]:
    """A server that gives one answer after another, and the last one for ever."""
    left = list(replies)
    return lambda asked: left.pop(0) if len(left) > 1 else left[0]


def an_endless_query(asked: Asked) -> Reply | None:
    return Reply(parts=[]) if asked.path == "/close-query" else rows(b'[1,"a"]\n', then=Then.HANG)


@BOTH
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_rows_are_the_same_however_the_bytes_are_cut(http: str, size: int) -> None:
    parts = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    assert told(always(Reply(parts=parts)), pulled, http=http) == FOUND


@BOTH
def test_slow_parts_are_waited_for(http: str) -> None:
    split = BODY.index("ö".encode()) + 1
    reply = Reply(parts=[BODY[:split], BODY[split:-5], BODY[-5:]], silence=0.05)
    assert told(always(reply), pulled, http=http) == FOUND


def test_a_last_row_without_an_end_of_line_is_a_row() -> None:
    assert told(always(Reply(parts=[BODY.rstrip()])), pulled) == FOUND


@BOTH
def test_rows_come_before_the_answer_ends(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        async with client.push(None, "SELECT * FROM `t` EMIT CHANGES;") as found:
            return await anext(found)

    assert told(an_endless_query, story, http=http) == {"n": 1, "text": "a"}


@BOTH
def test_an_answer_that_is_cut_in_the_middle_of_a_row_gives_its_rows_and_then_an_error(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        found = []
        with pytest.raises(KsqlUnavailableError, match=r"query SELECT .*broke the connection") as caught:
            async for row in client.pull(None, "SELECT * FROM `t`;"):
                found.append(row)
        assert isinstance(caught.value.__cause__, Exception)
        return found, len(served.asked)

    reply = rows(b'[1,"a"]\n[2,"b"', then=Then.CUT, silence=0.01)
    assert told(always(reply), story, http=http) == ([{"n": 1, "text": "a"}], 1)


@BOTH
def test_a_response_that_ends_in_the_middle_of_a_row_is_an_error(http: str) -> None:
    with pytest.raises(KsqlUnavailableError, match="broke the response off after 1 rows"):
        told(always(rows(b'[1,"a"]\n[2,"b"')), pulled, http=http)


def test_an_incomplete_array_is_an_error() -> None:
    with pytest.raises(KsqlUnavailableError, match="the array is incomplete"):
        told(always(Reply(parts=[b"[" + HEADER.strip(), b',[1,"a"]'])), pulled)


@BOTH
def test_a_query_that_has_not_begun_is_asked_again(http: str) -> None:
    busy = Reply(503, [b'{"@type":"generic_error","error_code":50302,"message":"Server initializing"}'])
    assert told(in_turn(busy, None, rows(b'[1,"a"]\n')), pulled, http=http) == [{"n": 1, "text": "a"}]


def test_nothing_of_an_attempt_that_failed_is_left_in_the_next() -> None:
    parts = [BODY[at : at + 20] for at in range(0, len(BODY), 20)]
    assert told(in_turn(Reply(parts=[HEADER[:10]]), Reply(parts=parts, silence=0.01)), pulled) == FOUND


@BOTH
def test_a_query_is_given_up_after_the_attempts(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> int:
        with pytest.raises(KsqlUnavailableError):
            await pulled(client, served)
        return len(served.asked)

    assert told(always(None), story, http=http, attempts=2) == 2


@BOTH
def test_waiting_for_a_server_that_stops_answering_ends(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        found = []
        with pytest.raises(KsqlUnavailableError, match="did not answer within 1s"):
            async for row in client.pull(None, "SELECT * FROM `t`;"):
                found.append(row)
        await served.until_ended(0)
        return found

    assert told(always(rows(b'[1,"a"]\n', then=Then.HANG)), story, http=http, timeout="1s") == [{"n": 1, "text": "a"}]


def test_a_push_query_waits_for_its_rows_without_limit_but_not_for_its_columns() -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        return [row async for row in client.push(None, "SELECT * FROM `t` EMIT CHANGES;")]

    assert told(always(rows(b'[1,"a"]\n', silence=1.3)), story, timeout="1s") == [{"n": 1, "text": "a"}]
    with pytest.raises(KsqlUnavailableError, match="did not answer within 100ms"):
        told(always(Reply(then=Then.HANG)), story, timeout="100ms", attempts=1)


def the_end_of(served: Served, connection: int) -> tuple[str, object] | None:
    ends = [asked for asked in served.asked if asked.path == "/close-query"]
    return ("same" if ends[0].connection == connection else "other", json.loads(ends[0].body)) if ends else None


ENDED = {"2": ("same", {"queryId": "q1"}), "1.1": None}
"""On HTTP/1.1 the connection is busy with the rows: its end is the end of the query."""


@BOTH
@pytest.mark.parametrize("way", ["with", "aclose", "error", "exit"])
def test_a_push_query_is_ended_at_the_server_when_its_iterator_is_closed(http: str, way: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        found = client.push(None, "SELECT * FROM `t` EMIT CHANGES;")
        if way == "with":
            async with found:
                await anext(found)
        elif way == "aclose":
            await anext(found)
            await found.aclose()
            await found.aclose()
            assert [row async for row in found] == []
        elif way == "error":
            with pytest.raises(ZeroDivisionError):
                async with found:
                    _ = 1 // 0
        else:
            await anext(found)
            await client.__aexit__(None, None, None)
            await client.__aenter__()
        await served.until_ended(0)
        return the_end_of(served, 0)

    assert told(an_endless_query, story, http=http) == ENDED[http]


@BOTH
def test_a_push_query_whose_columns_do_not_fit_is_ended_at_the_server(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        with pytest.raises(DataError, match=r"the query returns no columns for Tick.broker"):
            await client.push(Tick, "SELECT `text` AS `symbol` FROM `t` EMIT CHANGES;").begin()
        await served.until_ended(0)
        return the_end_of(served, 0)

    header = b'{"queryId":"q1","columnNames":["symbol"],"columnTypes":["STRING"]}\n'
    server = in_path({"/close-query": Reply(), "/query-stream": Reply(parts=[header], then=Then.HANG)})
    assert told(server, story, http=http) == ENDED[http]


def in_path(replies: dict[str, Reply]) -> Callable[[Asked], Reply | None]:
    """A server with an answer for each path."""
    return lambda asked: replies[asked.path]


def test_a_blocking_context_drives_the_client_by_its_portal() -> None:
    """As contexts do that are opened by `with`: every call is a task of its own in a loop of another thread."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(an_endless_query)) as served:
        client = KsqlClient(KsqlSettings(served.url, **PATIENT))
        portal.call(client.__aenter__)
        found = client.push(None, "SELECT * FROM `t` EMIT CHANGES;")
        assert portal.call(found.__anext__) == {"n": 1, "text": "a"}
        portal.call(found.aclose)
        assert served.paths == ["/query-stream", "/close-query"]
        portal.call(client.__aexit__, None, None, None)


@BOTH
def test_a_push_query_is_ended_at_the_server_when_its_task_is_cancelled(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        first = asyncio.Event()

        async def follow() -> None:
            async for _ in client.push(None, "SELECT * FROM `t` EMIT CHANGES;"):
                first.set()

        task = asyncio.create_task(follow())
        await first.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await served.until_ended(0)
        return the_end_of(served, 0)

    assert told(an_endless_query, story, http=http) == ENDED[http]


@BOTH
def test_a_task_that_waits_for_rows_sees_their_end_when_the_client_is_closed(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        first = asyncio.Event()
        seen = []

        async def follow() -> None:
            async for row in client.push(None, "SELECT * FROM `t` EMIT CHANGES;"):
                seen.append(row)
                first.set()

        task = asyncio.create_task(follow())
        await first.wait()
        await asyncio.sleep(0.05)
        await client.__aexit__(None, None, None)
        await task
        await served.until_ended(0)
        await client.__aenter__()
        return seen, the_end_of(served, 0)

    # The end of the connection ends the query: a request would wait for the reader, which waits for rows.
    assert told(an_endless_query, story, http=http) == ([{"n": 1, "text": "a"}], None)


def test_a_push_query_that_ends_by_itself_is_not_ended_again() -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        async with client.push(None, "SELECT * FROM `t` EMIT CHANGES LIMIT 1;") as found:
            assert len([row async for row in found]) == 1
        return served.paths

    assert told(always(rows(b'[1,"a"]\n')), story) == ["/query-stream"]


def test_a_query_that_has_ended_with_its_connection_or_before_is_no_error_but_another_answer_is() -> None:
    unknown = Reply(400, [b'{"@type":"generic_error","error_code":40000,"message":"No query with id q1"}'])
    wrong = Reply(500, [b'{"@type":"generic_error","error_code":50000,"message":"On wrong context or worker"}'])

    async def story(client: KsqlClient, served: Served) -> None:
        async with client.push(None, "SELECT 1;"):
            pass

    def ending(reply: Reply | None) -> Callable[[Asked], Reply | None]:
        return lambda asked: reply if asked.path == "/close-query" else rows(then=Then.HANG)

    for reply in (unknown, None, Reply(then=Then.HANG)):
        told(ending(reply), story, connect_timeout="500ms")
    with pytest.raises(KsqlError, match="end of query q1: refuses: On wrong context or worker"):
        told(ending(wrong), story)


def test_an_error_between_rows_ends_them() -> None:
    said = b'{"@type":"generic_error","error_code":50000,"message":"Exceeded the limit"}\n'
    with pytest.raises(KsqlError, match=r"refuses: Exceeded the limit \(code 50000\)"):
        told(always(rows(b'[1,"a"]\n', said)), pulled)


def test_marks_between_rows_are_skipped() -> None:
    assert told(always(rows(b'{"continuationToken":"x"}\n', b'\n[1,"a"]\n')), pulled) == [{"n": 1, "text": "a"}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "answers with an empty body instead of a line with the columns"),
        (b"[]", "instead of a line with the columns"),
        (b'{"queryId":"q"}\n', "instead of a line with the columns"),
        (b'{"columnNames":["a"],"columnTypes":["FLOAT"]}\n', "an unsupported type in 'FLOAT'"),
        (b"<html>busy</html>\n", "invalid JSON"),
        (HEADER + b'{"what":1}\n', "instead of a row"),
        (HEADER + b"7\n", "instead of a row"),
        (b'{"@type":"statement_error","error_code":40001,"message":"No such thing"}\n', r"refuses: No such thing \(code 40001\)"),
    ],
)
def test_an_invalid_response_to_a_query_is_shown(body: bytes, message: str) -> None:
    with pytest.raises(KsqlError, match=message):
        told(always(Reply(parts=[body])), pulled)


@pytest.mark.parametrize(
    ("row", "message"),
    [(b'["x","a"]\n', "column n = 'x' is not a valid BIGINT"), (b"[1]\n", "has 1 values, but the result has 2")],
)
def test_a_row_that_does_not_fit_its_columns_is_named(row: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"query SELECT .*, row 1: .*{message}"):
        told(always(rows(b'[1,"a"]\n', row)), pulled)


def test_properties_of_the_settings_and_of_the_call_go_with_a_query() -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        async for _ in client.pull(None, "SELECT 1;", {"b": "mine"}):
            pass
        return json.loads(served.asked[0].body)

    asked = told(always(rows()), story, properties={"a": "1", "b": "2"})
    assert asked == {"sql": "SELECT 1;", "properties": {"a": "1", "b": "mine"}}


@BOTH
def test_rows_are_asked_for_line_by_line_and_without_compression(http: str) -> None:
    async def story(client: KsqlClient, served: Served) -> object:
        async for _ in client.pull(None, "SELECT 1;"):
            pass
        return served.asked[0].headers

    headers = told(always(rows()), story, http=http)
    assert headers["accept"] == "application/vnd.ksqlapi.delimited.v1"
    assert headers["accept-encoding"] == "identity" and headers["content-type"] == "application/json"
