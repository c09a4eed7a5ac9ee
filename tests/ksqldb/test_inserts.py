"""Rows into a stream: what is sent, and what is known of each row afterwards."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest

import kandle
from kandle import Header, Key
from kandle.errors import DataError, KsqlError, KsqlUnavailableError, ModelError, QueryError
from kandle.ksqldb.client import KsqlClient
from tests.ksqldb.declarations import Everything, Tick
from tests.ksqldb.serving import Asked, Reply, Served, Then
from tests.ksqldb.talking import always, told

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)


def lines(asked: Asked) -> list[Any]:
    return [json.loads(line) for line in asked.body.splitlines()]


def acknowledged(count: int) -> list[bytes]:
    return [json.dumps({"seq": number, "status": "ok"}).encode() + b"\n" for number in range(count)]


def taking(asked: Asked) -> Reply:
    """A server that takes every row."""
    return Reply(parts=acknowledged(len(lines(asked)) - 1))


def refusing(number: int) -> Callable[[Asked], Reply]:
    """A server that takes no row with that number in its column `n`."""

    def answer(asked: Asked) -> Reply:
        rows = [row["`n`"] for row in lines(asked)[1:]]
        if number not in rows:
            return taking(asked)
        at = rows.index(number)
        said = {"@type": "InsertError", "status": "error", "seq": at, "message": "no such thing", "error_code": 40000}
        return Reply(parts=[*acknowledged(at), json.dumps(said).encode() + b"\n"])

    return answer


def inserted(rows: Any, server: Callable[[Asked], Reply | None] = taking, **settings: Any) -> tuple[Any, list[Asked]]:
    async def story(client: KsqlClient, served: Served) -> object:
        return await client.insert("Ticks", rows), served.asked

    found: tuple[Any, list[Asked]] = told(server, story, **settings)
    return found


def test_objects_are_sent_with_names_in_backticks_and_values_that_lose_nothing() -> None:
    made = Everything(
        UUID(int=7),
        datetime(2026, 11, 22, 14, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2))),
        date(2026, 11, 22),
        Decimal("1234567890123456789.0000000001"),
        2**62,
        0.1,
        True,
        b"\x00\xff",
        {"k": "v"},
    )
    count, (asked,) = inserted([made])
    assert count == 1
    assert asked.version == "2" and asked.body.endswith(b"\n")
    assert lines(asked) == [
        {"target": "`Ticks`"},
        {
            "`id`": "00000000-0000-0000-0000-000000000007",
            "`at`": "2026-11-22T12:00:00.250",
            "`day`": "2026-11-22",
            "`amount`": "1234567890123456789.0000000001",
            "`count`": 2**62,
            "`ratio`": 0.1,
            "`is_good`": True,
            "`raw`": "AP8=",
            "`labels`": {"k": "v"},
            "`note`": None,
        },
    ]


@kandle.stream("traced")
@dataclass(frozen=True)
class Traced:
    name: Annotated[str, Key(0)]
    source: Annotated[str | None, Header("source-id")] = None


def test_headers_cannot_be_inserted() -> None:
    _, (asked,) = inserted([Traced("a")])
    assert lines(asked)[1] == {"`name`": "a"}
    with pytest.raises(
        DataError, match=r"Traced\.source is a header, which ksqlDB cannot insert; add the row to the topic instead"
    ):
        inserted([Traced("a", "feed")])


def test_mappings_are_sent_by_column() -> None:
    _, (asked,) = inserted([{"odd `name`": [1, None, Decimal("1E+3")]}])
    assert lines(asked)[1] == {"`odd ``name```": [1, None, "1000"]}


async def one_by_one(rows: list[Any]) -> AsyncIterator[Any]:
    for row in rows:
        yield row


@pytest.mark.parametrize("form", [list, iter, one_by_one])
def test_rows_come_from_every_kind_of_iterable(form: Callable[[Any], Any]) -> None:
    count, asked = inserted(form([{"n": 1}, {"n": 2}]))
    assert count == 2 and len(asked) == 1


def test_nothing_is_sent_for_no_rows() -> None:
    assert inserted([]) == (0, [])


def test_many_rows_are_sent_in_several_requests_each_once() -> None:
    rows = [{"n": number, "text": "é" * 50} for number in range(1_000)]
    count, asked = inserted(rows)
    assert count == 1_000 and len(asked) > 3
    assert [row["`n`"] for each in asked for row in lines(each)[1:]] == list(range(1_000))
    assert all(len(each.body) < 33_000 and each.connection == 0 for each in asked)


def test_a_row_that_is_larger_than_a_request_is_sent_alone() -> None:
    large = "x" * 100_000
    count, asked = inserted([{"n": 0}, {"n": 1, "text": large}, {"n": 2}])
    assert count == 3 and [len(lines(each)) for each in asked] == [2, 2, 2]


@pytest.mark.parametrize("number", [0, 5, 999])
def test_the_first_error_ends_it_and_says_which_row(number: int) -> None:
    drawn = []

    def rows() -> Iterator[Any]:
        for each in range(1_000):
            drawn.append(each)
            yield {"n": each, "text": "x" * 100}

    with pytest.raises(KsqlError, match=rf"insert into Ticks, row {number}: refuses: no such thing \(code 40000\)") as caught:
        inserted(rows(), refusing(number))
    assert caught.value.code == 40000 and not isinstance(caught.value, KsqlUnavailableError)
    assert len(drawn) == 1_000 if number == 999 else len(drawn) < 400


@pytest.mark.parametrize(
    "reply",
    [
        Reply(parts=acknowledged(2), then=Then.CUT, silence=0.01),
        Reply(parts=acknowledged(2)),
        Reply(parts=[*acknowledged(2), b'{"seq":2,'], then=Then.CUT, silence=0.01),
        Reply(parts=acknowledged(2), then=Then.HANG),
    ],
)
def test_rows_that_were_not_acknowledged_are_named_and_not_sent_again(reply: Reply) -> None:
    asked: list[Asked] = []

    def server(each: Asked) -> Reply:
        asked.append(each)
        return reply

    timeout = "1s" if reply.then is Then.HANG else "10s"
    with pytest.raises(KsqlUnavailableError, match="; rows 2 to 4 may have been inserted or not, and are not sent again"):
        inserted([{"n": number} for number in range(5)], server, timeout=timeout)
    assert len(asked) == 1


@pytest.mark.parametrize("reply", [None, Reply(503, [b'{"error_code":50303,"message":"The server is shutting down"}'])])
def test_rows_are_not_sent_again_when_the_server_is_not_available_after_they_were_sent(reply: Reply | None) -> None:
    asked: list[Asked] = []

    def server(each: Asked) -> Reply | None:
        asked.append(each)
        return reply

    with pytest.raises(KsqlUnavailableError, match="rows 0 to 1 may have been inserted or not"):
        inserted([{"n": 0}, {"n": 1}], server)
    assert len(asked) == 1


@pytest.mark.parametrize("body", [b"nonsense\n", b"{}\n", b"[]\n", b'{"seq":"x","status":"ok"}\n'])
def test_an_invalid_acknowledgement_is_shown(body: bytes) -> None:
    with pytest.raises(KsqlError, match="instead of an acknowledgement"):
        inserted([{"n": 0}], always(Reply(parts=[body])))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (NOON + timedelta(microseconds=1), "its TIMESTAMP has milliseconds"),
        (NOON.replace(tzinfo=None), "has no time zone"),
        (float("nan"), "JSON has no such number"),
        (Decimal("NaN"), "not a finite decimal"),
        (object(), "of type object, which cannot be inserted"),
    ],
)
def test_a_value_that_cannot_be_inserted_is_named_before_its_row_is_sent(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"row 1: .*{message}"):
        inserted([{"n": 0}, {"n": value}], always(None))


def test_objects_that_do_not_fit_their_entity_are_refused() -> None:
    good = Tick("b", "s", NOON, Decimal("1.5"), 1)
    with pytest.raises(DataError, match=r"row 1: Tick.bid = .* digits behind the point"):
        inserted([good, replace(good, bid=Decimal("0.0000001"))], always(None))
    with pytest.raises(ModelError, match="is not an entity"):
        inserted([object()], always(None))


def test_a_name_that_no_column_can_have_is_refused() -> None:
    with pytest.raises(QueryError, match="ROWTIME"):
        inserted([{"ROWTIME": 1}], always(None))
