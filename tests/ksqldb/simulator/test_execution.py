"""Programs that a real server ran give here what they gave there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.ksqldb.simulator.executing import execute, run_script
from tests.ksqldb.simulator.server import Server

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
PROGRAMS = DATA / "ksqldb_programs.sql"

recorded = pytest.mark.skipif(not PROGRAMS.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")

TICKS = """
    CREATE STREAM `ticks` (`broker` VARCHAR KEY, `symbol` VARCHAR KEY, `time` TIMESTAMP, `bid` DECIMAL(18,6), `size` BIGINT)
    WITH (KAFKA_TOPIC='ticks', FORMAT='JSON', TIMESTAMP='`time`');"""


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-22T{text}+00:00").astimezone(UTC)


def tick(time: str, bid: object = None, size: int | None = None, symbol: str = "A") -> dict[str, Any]:
    price = None if bid is None else Decimal(str(bid))
    return {"broker": "b", "symbol": symbol, "time": at(time), "bid": price, "size": size}


def bars(rows: Iterable[Mapping[str, Any]], columns: str = "open high low close volume") -> dict[str, list[Any]]:
    """The rows by their start, as hh:mm."""
    return {f"{row['start']:%H:%M}": [row[column] for column in columns.split()] for row in rows}


ARRIVED = [
    *(tick("09:59:59.999", 99, 1), tick("10:00:00", 5.5, 2), tick("10:00:40", 7, 1), tick("10:00:20", 6, 1)),
    *(tick("10:00:59.999", 6.5, 1), tick("10:01:00", 8, 1)),
    *(tick(f"10:0{minute}:05") for minute in (3, 4, 5, 6, 7)),
    *(tick("10:08:30", 9, 1), tick("10:11:05"), tick("10:12:05")),
]
SESSION = {"id": "b|A", "intervals": [{"open_at": at("10:00:00"), "close_at": at("11:00:00")}]}
EMPTY = [None, None, None, None, 0]


@recorded
def test_the_two_recorded_programs_give_the_recorded_bars() -> None:
    tables = run_script(PROGRAMS.read_text(), {"ticks": ARRIVED, "sessions_by_key": [SESSION]})
    half = Decimal("5.5")
    assert bars(tables["bars_1m_live"]) == {
        "10:00": [half, 7, half, Decimal("6.5"), 5],
        "10:01": [8, 8, 8, 8, 1],
        "10:08": [9, 9, 9, 9, 1],
    }
    assert bars(tables["bars_1m_final"]) == {
        "09:59": [99, 99, 99, 99, 1],
        "10:00": [half, 7, half, Decimal("6.5"), 5],
        "10:01": [8, 8, 8, 8, 1],
        **{f"10:0{minute}": EMPTY for minute in (3, 4, 5, 6, 7)},
        "10:08": [9, 9, 9, 9, 1],
        "10:11": EMPTY,
    }
    assert bars(tables["bars_5m_final"]) == {
        "09:55": [99, 99, 99, 99, 1],
        "10:00": [half, 8, half, 8, 6],
        "10:05": [9, 9, 9, 9, 1],
    }


@pytest.fixture
def server() -> Server:
    server = Server()
    server.run(TICKS)
    return server


def counting(window: str, rest: str) -> str:
    return f"""CREATE TABLE `counts` AS SELECT `broker`, `symbol`, FROM_UNIXTIME(WINDOWSTART) AS `start`, COUNT(*) AS `n`
        FROM `ticks` WINDOW {window} {rest} GROUP BY `broker`, `symbol` EMIT FINAL;"""


def counted(window: str, rows: list[dict[str, Any]], server: Server, rest: str = "") -> dict[str, list[Any]]:
    return bars(execute(counting(window, rest), {"ticks": rows}, server), "n")


def test_a_window_is_final_when_time_reaches_its_end_and_the_grace(server: Server) -> None:
    """Grace 10 s: the bar of 10:00 closes at 10:01:10.000, not a millisecond before.

    10:00:30          10:01:09.999 | 10:01:10
    """
    window = "TUMBLING (SIZE 1 MINUTE, RETENTION 1 DAY, GRACE PERIOD 10 SECONDS)"
    assert counted(window, [tick("10:00:30"), tick("10:01:09.999")], server) == {}
    assert counted(window, [tick("10:00:30"), tick("10:01:10")], server) == {"10:00": [1]}


def test_late_rows_count_within_the_grace_only(server: Server) -> None:
    window = "TUMBLING (SIZE 1 MINUTE, RETENTION 1 DAY, GRACE PERIOD 10 SECONDS)"
    in_time = [tick("10:00:30"), tick("10:01:05"), tick("10:00:40"), tick("10:05:00")]
    late = [tick("10:00:20"), tick("10:00:30"), tick("10:01:10"), tick("10:00:40"), tick("10:05:00")]
    assert counted(window, in_time, server) == {"10:00": [2], "10:01": [1]}
    assert counted(window, late, server) == {"10:00": [2], "10:01": [1]}


def test_rows_that_where_leaves_out_close_nothing(server: Server) -> None:
    rows = [tick("10:00:30", 1), tick("10:05:00")]
    window = "TUMBLING (SIZE 1 MINUTE, RETENTION 1 DAY, GRACE PERIOD 0 SECONDS)"
    assert counted(window, rows, server, "WHERE `bid` IS NOT NULL") == {}
    assert counted(window, rows, server) == {"10:00": [1]}


def test_hopping_windows_overlap(server: Server) -> None:
    rows = [tick("10:07:00"), tick("10:30:00")]
    window = "HOPPING (SIZE 10 MINUTES, ADVANCE BY 5 MINUTES, RETENTION 1 DAY, GRACE PERIOD 0 SECONDS)"
    assert counted(window, rows, server) == {"10:00": [1], "10:05": [1]}


def test_days_begin_at_midnight_and_weeks_on_thursday(server: Server) -> None:
    rows = [tick("10:00:00"), {**tick("10:00:00"), "time": at("10:00:00") + timedelta(days=8)}]
    statement = counting("TUMBLING (SIZE 7 DAYS, RETENTION 30 DAYS, GRACE PERIOD 0 SECONDS)", "")
    assert execute(statement, {"ticks": rows}, server)[0]["start"] == datetime(2026, 11, 19, tzinfo=UTC)


def test_rows_without_a_key_or_a_time_are_left_out(server: Server) -> None:
    rows = [tick("10:00:30"), {**tick("10:00:30"), "broker": None}, {**tick("10:00:30"), "time": None}]
    statement = "CREATE TABLE `counts` AS SELECT `broker`, `symbol`, COUNT(*) AS `n` FROM `ticks` GROUP BY `broker`, `symbol`;"
    assert execute(statement, {"ticks": rows}, server) == [{"broker": "b", "symbol": "A", "n": 1}]


def test_having_takes_empty_bars_out_and_a_second_table_carries_the_close() -> None:
    script = (
        TICKS
        + """
    CREATE TABLE `bars` WITH (KAFKA_TOPIC='bars') AS SELECT `broker`, `symbol`, AS_VALUE(`broker`) AS `b`,
        AS_VALUE(`symbol`) AS `s`, FROM_UNIXTIME(WINDOWSTART) AS `start`,
        EARLIEST_BY_OFFSET(`bid`) AS `open`, LATEST_BY_OFFSET(`bid`) AS `close`,
        SUM(`size`) AS `volume` FROM `ticks` WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 5 SECONDS)
        GROUP BY `broker`, `symbol` EMIT FINAL;
    CREATE TABLE `busy` WITH (KAFKA_TOPIC='busy') AS SELECT `broker`, `symbol`, FROM_UNIXTIME(WINDOWSTART) AS `start`,
        COUNT(`bid`) AS `n` FROM `ticks` WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 5 SECONDS)
        GROUP BY `broker`, `symbol` HAVING COUNT(`bid`) > 0 EMIT FINAL;
    CREATE STREAM `again` (`b` VARCHAR, `s` VARCHAR, `start` TIMESTAMP, `open` DECIMAL(18,6), `close` DECIMAL(18,6),
        `volume` BIGINT) WITH (KAFKA_TOPIC='bars', VALUE_FORMAT='JSON', TIMESTAMP='`start`');
    CREATE TABLE `filled` WITH (KAFKA_TOPIC='filled', KEY_FORMAT='JSON') AS SELECT `b`, `s`, LATEST_BY_OFFSET(`start`) AS `start`,
        COALESCE(LATEST_BY_OFFSET(`open`, FALSE), LATEST_BY_OFFSET(`close`)) AS `open`, LATEST_BY_OFFSET(`close`) AS `close`,
        LATEST_BY_OFFSET(`volume`) AS `volume` FROM `again` GROUP BY `b`, `s` EMIT CHANGES;
    """
    )
    tables = run_script(script, {"ticks": [tick("10:01:10", 7, 1), tick("10:01:50", 8, 2), tick("10:02:30"), tick("10:03:05")]})
    assert bars(tables["busy"], "n") == {"10:01": [2]}
    assert bars(tables["bars"], "open close volume") == {"10:01": [7, 8, 3], "10:02": [None, None, 0]}
    assert bars(tables["filled"], "open close volume") == {"10:02": [8, 8, 0]}


def test_a_union_of_two_streams_has_the_rows_of_both() -> None:
    script = (
        TICKS
        + """
    CREATE STREAM `beats` (`broker` VARCHAR KEY, `symbol` VARCHAR KEY, `x` INT) WITH (KAFKA_TOPIC='beats', FORMAT='JSON');
    CREATE STREAM `all` AS SELECT `broker`, `symbol`, `bid` FROM `ticks`;
    INSERT INTO `all` SELECT `broker`, `symbol`, CAST(NULL AS DECIMAL(18,6)) AS `bid` FROM `beats`;
    """
    )
    tables = run_script(script, {"ticks": [tick("10:00:00", 5)], "beats": [{"broker": "b", "symbol": "A", "x": 1, "ROWTIME": 1}]})
    assert [row["bid"] for row in tables["all"]] == [5, None]


SCHEDULED = (
    TICKS
    + """
    CREATE TABLE `hours` (`id` VARCHAR PRIMARY KEY, `intervals` ARRAY<STRUCT<`from` TIMESTAMP, `until` TIMESTAMP>>)
        WITH (KAFKA_TOPIC='hours', VALUE_FORMAT='JSON');
    CREATE STREAM `inside` AS SELECT `h`.`id`, `t`.`time` AS `time`,
        REDUCE(ARRAY[2], 3, (`size`, `x`) => `size` * `x`) AS `six` FROM `ticks` `t` {kind} JOIN `hours` `h`
        ON `t`.`broker` + '|' + `t`.`symbol` = `h`.`id` {where};
    """
)
IN_HOURS = "WHERE ARRAY_LENGTH(FILTER(`h`.`intervals`, i => (i->`from` <= `t`.`time`) AND (`t`.`time` < i->`until`))) > 0"


def test_intervals_of_a_table_are_half_open() -> None:
    """[10:00, 11:00) and [12:00, 13:00)."""
    spans = [{"from": at(f"{hour}:00:00"), "until": at(f"{hour + 1}:00:00")} for hour in (10, 12)]
    times = ["09:59:59.999", "10:00:00", "10:59:59.999", "11:00:00", "12:00:00", "13:00:00"]
    rows = {"ticks": [tick(time) for time in times], "hours": [{"id": "b|A", "intervals": spans}]}
    rows_inside = run_script(SCHEDULED.format(kind="", where=IN_HOURS), rows)["inside"]
    assert [row["time"] for row in rows_inside] == [at(times[position]) for position in (1, 2, 4)]


def test_an_inner_join_needs_the_tables_row_and_a_left_join_does_not() -> None:
    rows = {"ticks": [tick("10:00:00")], "hours": []}
    assert run_script(SCHEDULED.format(kind="", where=""), rows)["inside"] == []
    assert run_script(SCHEDULED.format(kind="LEFT", where=""), rows)["inside"] == [{"id": None, "time": at("10:00:00"), "six": 6}]


def test_a_stream_of_windows_knows_their_bounds() -> None:
    """The key has the window in it; a stream that is declared without one only has the columns."""
    script = (
        TICKS
        + """
    CREATE TABLE `counts` WITH (KAFKA_TOPIC='counts') AS SELECT `broker`, `symbol`, COUNT(*) AS `n` FROM `ticks`
        WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS) GROUP BY `broker`, `symbol`;
    CREATE STREAM `windows` (`broker` VARCHAR KEY, `symbol` VARCHAR KEY, `n` BIGINT)
        WITH (KAFKA_TOPIC='counts', FORMAT='JSON', WINDOW_TYPE='TUMBLING', WINDOW_SIZE='1 MINUTES');
    CREATE STREAM `starts` AS SELECT `broker`, `symbol`, FROM_UNIXTIME(WINDOWSTART) AS `start`, FROM_UNIXTIME(WINDOWEND) AS `end`,
        REDUCE(ARRAY[2], 3, (`n`, `x`) => `n` * `x`) AS `six` FROM `windows` WHERE `n` > 1;
    """
    )
    tables = run_script(script, {"ticks": [tick("10:00:00"), tick("10:00:01")]})
    assert tables["starts"] == [{"broker": "b", "symbol": "A", "start": at("10:00:00"), "end": at("10:01:00"), "six": 6}]


def test_a_table_has_the_newest_row_of_each_key() -> None:
    script = """
    CREATE TABLE `rates` (`id` VARCHAR PRIMARY KEY, `rate` INT) WITH (KAFKA_TOPIC='rates', VALUE_FORMAT='JSON');
    CREATE TABLE `doubled` AS SELECT `id`, `rate` * 2 AS `rate` FROM `rates`;
    """
    rows = [{"id": "a", "rate": 1}, {"id": "b", "rate": 2}, {"id": "a", "rate": 3}]
    assert run_script(script, {"rates": rows})["doubled"] == [{"id": "a", "rate": 6}, {"id": "b", "rate": 4}]
