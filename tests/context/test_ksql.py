"""`market.ksql`: the ksqlDB of a context, awaited or blocking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
from anyio.from_thread import start_blocking_portal

import kandle
from kandle import Context, EventSet, Key, TableSet
from kandle.errors import DataError, KsqlError, OptionsError, StateError
from tests.ksqldb.serving import Asked, Reply, Served, Then, serving
from tests.ksqldb.talking import rows
from tests.waiting import LIMIT


@kandle.table("words")
@dataclass(frozen=True)
class Word:
    text: Annotated[str, Key(0)]
    n: int


class Words(Context):
    words: TableSet[Word]


def answer(asked: Asked) -> Reply | None:
    if asked.path == "/query-stream":
        then = Then.HANG if b"EMIT CHANGES" in asked.body else Then.END
        return rows(b'[1,"a"]\n[2,"b"]\n', then=then)
    if asked.path == "/info":
        return Reply(parts=[b'{"KsqlServerInfo":{"version":"7.4.0","kafkaClusterId":"x","ksqlServiceId":"y_"}}'])
    return Reply(400, [b'{"error_code":40001,"message":"no"}']) if asked.path == "/ksql" else Reply(parts=[])


def opened(folder: Path, url: str) -> Words:
    return Words.open(log={"path": folder}, ksqldb={"url": url, "timeout": "120s"})


def test_it_is_awaited_in_an_async_context(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(answer) as served:
            async with opened(tmp_path, served.url) as words:
                assert await words.ksql.pull_async(Word, "SELECT * FROM `words`;") == [Word("a", 1), Word("b", 2)]
                assert (await words.ksql.info_async()).release == (7, 4, 0)
                async for row in words.ksql.push(None, "SELECT * FROM `words` EMIT CHANGES;"):
                    assert row == {"n": 1, "text": "a"}
                    break
                with pytest.raises(KsqlError, match="no"):
                    await words.ksql.execute_async("CREATE STREAM ..;")
            assert served.connections

    asyncio.run(asyncio.wait_for(story(), LIMIT))


def blocking(story: Callable[[Served], Any]) -> None:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(answer)) as served:
        story(served)


def test_it_blocks_in_a_plain_context_and_a_loop_that_is_left_ends_its_query(tmp_path: Path) -> None:
    def story(served: Served) -> None:
        with opened(tmp_path, served.url) as words:
            assert words.ksql.pull(None, "SELECT * FROM `words`;") == [{"n": 1, "text": "a"}, {"n": 2, "text": "b"}]
            found = []
            for row in words.ksql.push(Word, "SELECT * FROM `words` EMIT CHANGES;"):
                found.append(row)
                if len(found) == 2:
                    break
            assert found == [Word("a", 1), Word("b", 2)]
            assert "/close-query" in served.paths

    blocking(story)


def test_before_the_context_is_open_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="the context is not open"):
        _ = opened(tmp_path, "http://127.0.0.1:1").ksql


def test_a_wrong_url_is_named_and_a_password_is_not(tmp_path: Path) -> None:
    with opened(tmp_path, "ksqldb:8088") as words, pytest.raises(OptionsError, match=r"is not a valid url of ksqlDB"):
        words.ksql.info()
    with pytest.raises(OptionsError) as caught:
        Words.open(ksqldb={"password": ["s3cret"]})
    assert "s3cret" not in str(caught.value)


@kandle.stream("prices")
@dataclass(frozen=True)
class Price:
    symbol: Annotated[str, Key(0)]
    amount: Decimal


@kandle.table("rates")
@dataclass(frozen=True)
class Rate:
    """No context has a set of it."""

    pair: Annotated[str, Key(0)]
    amount: Decimal


class Prices(Context):
    prices: EventSet[Price]


def serving_decimals(asked: Asked) -> Reply:
    if asked.path == "/inserts-stream":
        count = len(asked.body.splitlines()) - 1
        return Reply(parts=[json.dumps({"seq": number, "status": "ok"}).encode() + b"\n" for number in range(count)])
    name = "pair" if b"rates" in asked.body else "symbol"
    header = {"queryId": "q", "columnNames": [name, "amount"], "columnTypes": ["STRING", "DECIMAL(9, 3)"]}
    return Reply(parts=[json.dumps(header).encode() + b"\n", b'["a",1.250]\n'], content_type=None)


def test_decimals_without_digits_have_those_of_the_options_in_inserts_and_rows(tmp_path: Path) -> None:
    fields: Any = {"decimal_precision": 9, "decimal_scale": 3}
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(serving_decimals)) as served:
        options: Any = {"log": {"path": tmp_path}, "ksqldb": {"url": served.url, "timeout": "120s"}, "validation": "relaxed"}
        with pytest.warns(UserWarning), Prices.open(**options, fields=fields) as prices:
            assert prices.ksql.insert("prices", [Price("a", Decimal("1.25"))]) == 1
            assert prices.ksql.pull(Price, "SELECT * FROM `prices`;") == [Price("a", Decimal("1.25"))]
            assert prices.ksql.insert("rates", [Rate("a", Decimal("1.25"))]) == 1
            assert prices.ksql.pull(Rate, "SELECT * FROM `rates`;") == [Rate("a", Decimal("1.25"))]
            with pytest.raises(DataError, match=r"row 0: Price\.amount = Decimal\('1\.2345'\) has 4 digits behind the point"):
                prices.ksql.insert("prices", [Price("a", Decimal("1.2345"))])
