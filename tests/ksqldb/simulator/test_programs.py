"""Statements: what the recorded server took is taken, what it refused is refused, and generated scripts keep the house rules."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.ksqldb.simulator.checking import check_script
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.server import Server, check_setting

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
PROGRAMS = DATA / "ksqldb_programs.sql"

recorded = pytest.mark.skipif(not PROGRAMS.exists(), reason=f"no shared data in {DATA} (set KANDLE_SHARED_DATA)")

DECLARED = """
CREATE STREAM TICKS (BROKER VARCHAR KEY, SYMBOL VARCHAR KEY, TS TIMESTAMP, PRICE DECIMAL(18,6), QTY BIGINT, NOTE VARCHAR)
  WITH (KAFKA_TOPIC='t', PARTITIONS=2, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='TS');
CREATE STREAM BARE (B VARCHAR, S VARCHAR, TS TIMESTAMP, PRICE DECIMAL(18,6))
  WITH (KAFKA_TOPIC='bare', VALUE_FORMAT='JSON', TIMESTAMP='TS');
CREATE STREAM ONE (ID VARCHAR KEY, V INT) WITH (KAFKA_TOPIC='one', VALUE_FORMAT='JSON');
CREATE TABLE SCHED (ID VARCHAR PRIMARY KEY, OPEN_AT TIMESTAMP, CLOSE_AT TIMESTAMP)
  WITH (KAFKA_TOPIC='sched', VALUE_FORMAT='JSON');
CREATE TABLE PAIRS (A VARCHAR PRIMARY KEY, B VARCHAR PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='pairs', FORMAT='JSON');
CREATE STREAM M1W (BROKER VARCHAR KEY, SYMBOL VARCHAR KEY, BS TIMESTAMP, O DECIMAL(18,6))
  WITH (KAFKA_TOPIC='m1', FORMAT='JSON', WINDOW_TYPE='TUMBLING', WINDOW_SIZE='1 MINUTE', TIMESTAMP='BS');
CREATE TABLE BARS WITH (KEY_FORMAT='JSON') AS SELECT BROKER, SYMBOL, MAX(PRICE) AS H FROM TICKS
  WINDOW TUMBLING (SIZE 1 MINUTE, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS) GROUP BY BROKER, SYMBOL EMIT CHANGES;
CREATE STREAM COPY AS SELECT BROKER, SYMBOL, PRICE, QTY FROM TICKS;
"""


@pytest.fixture
def server() -> Server:
    server = Server()
    assert check_script(DECLARED, generated=False, server=server) == []
    return server


@recorded
def test_both_recorded_programs_are_accepted_as_generated_scripts() -> None:
    assert check_script(PROGRAMS.read_text()) == []


def recorded_statements() -> list[dict[str, Any]]:
    lines = (DATA / "ksqldb_rest.jsonl").read_text().splitlines()
    exchanges = [exchange for exchange in map(json.loads, lines) if exchange["path"] == "/ksql"]
    return [exchange | {"body": json.loads(exchange["request_body"])} for exchange in exchanges]


def refusal(body: dict[str, Any], server: Server) -> str:
    try:
        for name in body["streamsProperties"]:
            check_setting(name)
    except RefusedError as error:
        return str(error)
    return " ".join(check_script(body["ksql"], generated=False, server=server))


@recorded
def test_every_recorded_statement_has_the_servers_verdict_in_its_turn() -> None:
    server, exchanges = Server(), recorded_statements()
    verdicts = [(exchange["name"], refusal(exchange["body"], server)) for exchange in exchanges]
    assert [(name, message == "") for name, message in verdicts] == [
        (exchange["name"], exchange["status"] == 200) for exchange in exchanges
    ]
    assert sum(message != "" for _, message in verdicts) == 15


WINDOW = "WINDOW TUMBLING (SIZE 1 MINUTE, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)"
GROUPED = "GROUP BY BROKER, SYMBOL"
KEYED = "SELECT BROKER, SYMBOL, COUNT(*) AS N FROM TICKS"

REFUSED = {
    # names and literals
    "CREATE STREAM X AS SELECT BROKER, SYMBOL, PRICE AS SIZE FROM TICKS;": "Syntax Error",
    "CREATE STREAM `a.b` AS SELECT * FROM TICKS;": "alphanumeric",
    "CREATE STREAM X (A VARCHAR, `ROWTIME` BIGINT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "Reserved column name",
    "CREATE STREAM X (A FLOAT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "unknown type",
    "CREATE STREAM X (A DECIMAL) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "Syntax Error",
    "CREATE STREAM X (A VARCHAR, A INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "Duplicate",
    "CREATE STREAM X AS SELECT BROKER, SYMBOL, TIMESTAMP '2026-11-22' AS T FROM TICKS;": "Syntax Error",
    "CREATE STREAM X AS SELECT BROKER, SYMBOL, 1 FROM TICKS": "Syntax Error",
    "CREATE STREAM X (A VARCHAR, H ARRAY<INT> HEADERS) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "Invalid type for HEADERS",
    "CREATE OR REPLACE STREAM COPY AS SELECT BROKER, SYMBOL, QTY, PRICE FROM TICKS;": "not upgradeable",
    # keys and formats
    "CREATE STREAM X (A VARCHAR KEY, B VARCHAR KEY, V INT) WITH (KAFKA_TOPIC='x',"
    " VALUE_FORMAT='JSON');": "only supports a single field",
    "CREATE STREAM X (A VARCHAR KEY, V INT) WITH (KAFKA_TOPIC='x', KEY_FORMAT='NONE', VALUE_FORMAT='JSON');": "NONE",
    "CREATE STREAM X (A TIMESTAMP KEY, V INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "does not support type",
    "CREATE STREAM X (A VARCHAR PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "please use 'KEY'",
    "CREATE TABLE X (A VARCHAR KEY, V INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "please use 'PRIMARY KEY'",
    "CREATE TABLE X (A VARCHAR, V INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "require a PRIMARY KEY",
    "CREATE STREAM X (A VARCHAR, V INT) WITH (KAFKA_TOPIC='x');": "VALUE_FORMAT",
    "CREATE STREAM X (A VARCHAR) WITH (KAFKA_TOPIC='x', FORMAT='JSON', KEY_FORMAT='JSON');": "Cannot supply both",
    "CREATE STREAM X (A VARCHAR) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='XML');": "Unknown format",
    "CREATE STREAM X (A VARCHAR) WITH (KAFKA_TOPIK='x', VALUE_FORMAT='JSON');": "Invalid config",
    "CREATE TABLE X AS SELECT B, S, COUNT(*) AS N FROM BARE GROUP BY B, S;": "only supports a single field",
    "CREATE TABLE X AS SELECT BROKER, COUNT(*) AS N FROM TICKS GROUP BY BROKER, SYMBOL;": "Key missing from projection",
    "CREATE STREAM X AS SELECT BROKER, PRICE FROM TICKS;": "Key missing from projection",
    "CREATE STREAM X AS SELECT BROKER, SYMBOL FROM TICKS;": "no value columns",
    "CREATE STREAM X AS SELECT BROKER, BROKER AS B, SYMBOL, PRICE FROM TICKS;": "more than once",
    # time
    "CREATE STREAM X (A VARCHAR, `t` TIMESTAMP) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON',"
    " TIMESTAMP='t');": "does not exist in the schema",
    "CREATE STREAM X (A VARCHAR) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON', TIMESTAMP='A');": "timestamp_format",
    "CREATE STREAM X (A INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON', TIMESTAMP='A');": "should be LONG",
    # windows
    f"CREATE TABLE X AS {KEYED} WINDOW TUMBLING (SIZE 1 WEEK) {GROUPED};": "Syntax Error",
    f"CREATE TABLE X AS {KEYED} WINDOW TUMBLING (SIZE 1.5 MINUTES) {GROUPED};": "For input string",
    f"CREATE TABLE X AS {KEYED} WINDOW TUMBLING (SIZE 0 MINUTES) {GROUPED};": "must be positive",
    f"CREATE TABLE X AS {KEYED} WINDOW TUMBLING (SIZE 1 HOUR, RETENTION 1 HOUR, GRACE PERIOD 1 SECOND)"
    f" {GROUPED};": "retention period",
    f"CREATE TABLE X AS {KEYED} WINDOW TUMBLING (SIZE 1 HOUR, GRACE PERIOD 1 SECOND, RETENTION 2 HOURS)"
    f" {GROUPED};": "Syntax Error",
    f"CREATE TABLE X AS {KEYED} WHERE PRICE > 0 {WINDOW} {GROUPED};": "Syntax Error",
    f"CREATE TABLE X AS {KEYED} {GROUPED} EMIT FINAL;": "EMIT FINAL is only supported for windowed",
    f"CREATE TABLE X AS {KEYED} {WINDOW} {GROUPED} LIMIT 1;": "LIMIT",
    f"CREATE TABLE X AS {KEYED} {WINDOW} {GROUPED} ORDER BY N;": "Syntax Error",
    f"CREATE TABLE X AS SELECT BROKER, SYMBOL, WINDOWSTART, COUNT(*) AS N FROM TICKS {WINDOW} {GROUPED};": "Reserved column name",
    f"CREATE TABLE X AS {KEYED} {WINDOW} {GROUPED} HAVING WINDOWSTART > 0;": "WINDOWSTART",
    f"CREATE TABLE X AS SELECT BROKER, SYMBOL, MAX(WINDOWSTART) AS N FROM TICKS {WINDOW} {GROUPED};": "WINDOWSTART",
    "CREATE TABLE X AS SELECT BROKER, SYMBOL, MAX(WINDOWSTART) AS N FROM M1W GROUP BY BROKER, SYMBOL;": "WINDOWSTART",
    f"CREATE STREAM X AS SELECT * FROM TICKS {WINDOW};": "GROUP BY",
    "CREATE TABLE X AS SELECT BROKER, SYMBOL, H FROM BARS;": "windowed tables",
    "CREATE TABLE X AS SELECT BROKER, SYMBOL, MAX(H) AS H FROM BARS GROUP BY BROKER, SYMBOL;": "windowed tables",
    "CREATE STREAM X AS SELECT BROKER, SYMBOL, O FROM M1W PARTITION BY O;": "Implicit repartitioning",
    # aggregates
    "CREATE TABLE X AS SELECT BROKER, SYMBOL, PRICE FROM TICKS GROUP BY BROKER, SYMBOL;": "not part of GROUP BY",
    "CREATE TABLE X AS SELECT BROKER, SYMBOL, QTY + 1 AS N FROM TICKS GROUP BY BROKER, SYMBOL, QTY + 1;": "aggregate functions",
    "CREATE STREAM X AS SELECT BROKER, SYMBOL, COUNT(*) AS N FROM TICKS;": "aggregate",
    f"CREATE TABLE X AS {KEYED} WHERE COUNT(*) > 1 {GROUPED};": "aggregate",
    f"CREATE STREAM X AS {KEYED} {GROUPED};": "produces a TABLE",
    "CREATE TABLE X AS SELECT BROKER, SYMBOL, PRICE FROM TICKS;": "produces a STREAM",
    "CREATE TABLE X AS SELECT ID, MAX(OPEN_AT) AS O FROM SCHED GROUP BY ID;": "cannot be applied to a table source",
    f"CREATE TABLE X AS SELECT BROKER, SYMBOL, AVG(PRICE) AS P FROM TICKS {GROUPED};": "does not accept parameters",
    f"CREATE TABLE X AS SELECT BROKER, SYMBOL, TOPK(PRICE, QTY, 1) AS P FROM TICKS {GROUPED};": "does not accept parameters",
    # inserting
    "INSERT INTO COPY SELECT BROKER, SYMBOL, PRICE FROM TICKS;": "Incompatible schema",
    "INSERT INTO COPY SELECT BROKER, SYMBOL, PRICE, CAST(QTY AS INT) AS QTY FROM TICKS;": "Incompatible schema",
    "INSERT INTO COPY SELECT BROKER, SYMBOL, PRICE, NULL AS QTY FROM TICKS;": "type of null",
    "INSERT INTO COPY SELECT BROKER AS SYMBOL, SYMBOL AS B, PRICE, QTY FROM TICKS;": "Incompatible schema",
    "INSERT INTO NOPE SELECT * FROM TICKS;": "unknown stream",
    "INSERT INTO BARS SELECT BROKER, SYMBOL, PRICE AS H FROM TICKS;": "windowed",
    # joins
    "CREATE STREAM X AS SELECT T.BROKER AS B, P.V AS V FROM TICKS T JOIN PAIRS P ON T.BROKER = P.A AND"
    " T.SYMBOL = P.B;": "conditions",
    "CREATE STREAM X AS SELECT P.A, T.PRICE AS V FROM TICKS T JOIN PAIRS P ON T.BROKER = P.A;": "single primary key",
    "CREATE STREAM X AS SELECT S.ID, T.PRICE AS V FROM TICKS T JOIN SCHED S ON T.TS = S.OPEN_AT;": "primary key",
    "CREATE STREAM X AS SELECT T.PRICE AS V FROM TICKS T JOIN SCHED S ON T.BROKER + '|' + T.SYMBOL = S.ID;": "Key missing",
    "CREATE STREAM X AS SELECT S.ID, T.PRICE AS V FROM TICKS T JOIN SCHED S ON T.BROKER > S.ID;": "equality",
    "CREATE STREAM X AS SELECT S.ID, T.PRICE AS V FROM TICKS T RIGHT JOIN SCHED S ON T.BROKER = S.ID;": "join type",
    "CREATE STREAM X AS SELECT S.ID, T.PRICE AS V FROM TICKS T JOIN SCHED S WITHIN 1 HOUR ON T.BROKER = S.ID;": "not windowed",
    "CREATE STREAM X AS SELECT S.ID, T.PRICE AS V FROM TICKS T JOIN SCHED S ON T.QTY = S.ID;": "types don't match",
    "CREATE STREAM X AS SELECT T.BROKER, T.PRICE AS V FROM TICKS T JOIN ONE O ON T.BROKER = O.ID;": "WITHIN",
    "CREATE STREAM X AS SELECT M.BROKER, M.O AS V FROM M1W M JOIN SCHED S ON M.BROKER = S.ID;": "with non-windowed",
    "CREATE STREAM X AS SELECT S.ID, BROKER, B FROM TICKS T JOIN SCHED S ON T.BROKER = S.ID;": "cannot be resolved",
    "CREATE STREAM X AS SELECT O.ID, ID AS V FROM ONE O JOIN SCHED S ON O.ID = S.ID;": "'ID' cannot be resolved",
    "CREATE STREAM `a-b` (A INT KEY, B INT KEY, V INT) WITH (KAFKA_TOPIC='x', FORMAT='AVRO');": "Illegal character in: A-bKey",
    "CREATE STREAM `_2b` (A INT KEY, B INT KEY, V INT) WITH (KAFKA_TOPIC='x', FORMAT='AVRO');": "initial character: 2bKey",
    # dropping
    "DROP STREAM TICKS;": "read from this source",
    "DROP TABLE COPY;": "Incompatible data source",
    "DROP STREAM NOPE;": "does not exist",
    "TERMINATE CTAS_NOPE_1;": "Unknown queryId",
    "DROP TABLE IF EXIST COPY;": "Syntax Error",
    "SET 'no.such.property' = '1';": "Not recognizable",
    "SELECT * FROM TICKS EMIT CHANGES;": "/query",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_server_refuses_is_refused_with_its_reason(text: str, server: Server) -> None:
    problems = check_script(text, generated=False, server=server)
    assert len(problems) == 1
    assert REFUSED[text] in problems[0]


ACCEPTED = (
    "CREATE STREAM `a-b` (A VARCHAR KEY, V INT) WITH (KAFKA_TOPIC='x', FORMAT='AVRO');",
    "CREATE STREAM X (A VARCHAR KEY, B VARCHAR KEY, V INT) WITH (KAFKA_TOPIC='x', PARTITIONS=1, FORMAT='DELIMITED');",
    "CREATE STREAM X (A VARCHAR, T VARCHAR) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON', TIMESTAMP='T',"
    " TIMESTAMP_FORMAT='yyyy-MM-dd');",
    "CREATE STREAM X (A VARCHAR, H ARRAY<STRUCT<key STRING, value BYTES>> HEADERS) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');",
    "CREATE SOURCE TABLE X (A VARCHAR PRIMARY KEY, V INT) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');",
    "CREATE TABLE X WITH (KEY_FORMAT='JSON') AS SELECT B, S, COUNT(*) AS N FROM BARE GROUP BY B, S;",
    "CREATE TABLE X AS SELECT B, COUNT(*) AS N FROM BARE GROUP BY B;",
    f"CREATE TABLE X AS SELECT BROKER, SYMBOL, FROM_UNIXTIME(WINDOWSTART) AS BS, COUNT(*) AS N FROM"
    f" TICKS {WINDOW} {GROUPED} EMIT FINAL;",
    f"CREATE TABLE X AS {KEYED} {WINDOW} WHERE PRICE > 0 GROUP BY (BROKER, SYMBOL) HAVING COUNT(PRICE) > 0 EMIT FINAL;",
    f"CREATE TABLE X AS {KEYED} WINDOW HOPPING (SIZE 1 HOUR, ADVANCE BY 10 MINUTES, RETENTION 1 DAY,"
    f" GRACE PERIOD 1 HOUR) {GROUPED};",
    f"CREATE TABLE X AS SELECT BROKER, SYMBOL, AS_VALUE(BROKER) AS B, SUM(CAST(PRICE AS DECIMAL(38,6)))"
    f" AS V FROM TICKS {GROUPED};",
    f"CREATE TABLE X AS SELECT BROKER, SYMBOL, MAX(ROWTIME) AS T FROM TICKS {GROUPED};",
    "CREATE STREAM X AS SELECT BROKER, SYMBOL, ROWTIME AS RT, 1 FROM TICKS EMIT CHANGES;",
    "CREATE STREAM X AS SELECT * FROM TICKS PARTITION BY BROKER, SYMBOL;",
    "CREATE STREAM X AS SELECT NOTE, PRICE FROM TICKS PARTITION BY NOTE;",
    "CREATE STREAM X AS SELECT BROKER, SYMBOL, O FROM M1W WHERE WINDOWSTART > 0;",
    "CREATE STREAM X AS SELECT S.ID, T.BROKER AS BROKER, T.PRICE AS PRICE FROM TICKS T"
    " JOIN SCHED S ON T.BROKER + '|' + T.SYMBOL = S.ID WHERE T.TS >= S.OPEN_AT AND T.TS < S.CLOSE_AT;",
    "CREATE STREAM X AS SELECT T.BROKER, T.PRICE AS V FROM TICKS T LEFT JOIN ONE O"
    " WITHIN (24 HOURS, 0 SECONDS) GRACE PERIOD 5 SECONDS ON T.BROKER = O.ID;",
    "CREATE TABLE X AS SELECT ID, COUNT(*) AS N, COLLECT_LIST(OPEN_AT) AS L FROM SCHED GROUP BY ID;",
    "CREATE TABLE X AS SELECT ID, OPEN_AT FROM SCHED WHERE OPEN_AT > '2026-11-22';",
    "INSERT INTO COPY SELECT QTY, BROKER, PRICE, SYMBOL FROM TICKS;",
    "INSERT INTO COPY SELECT BROKER, SYMBOL, CAST(NULL AS DECIMAL(18,6)) AS PRICE, CAST(NULL AS BIGINT) AS QTY FROM TICKS;",
    "INSERT INTO SCHED (ID, OPEN_AT) VALUES ('b|A', '2026-11-22T10:00:00.000');",
    "CREATE OR REPLACE STREAM COPY AS SELECT BROKER, SYMBOL, PRICE, QTY, NOTE FROM TICKS WHERE PRICE > 0;",
    "DROP TABLE BARS DELETE TOPIC; DROP STREAM COPY; DROP STREAM TICKS;",
    "TERMINATE CTAS_BARS_12; TERMINATE CSAS_COPY_3; DROP STREAM TICKS;",
    "SET 'auto.offset.reset' = 'earliest'; SHOW QUERIES; DESCRIBE BARS EXTENDED; PAUSE ALL;",
    "-- a comment; with a semicolon\nCREATE STREAM IF NOT EXISTS TICKS (A INT) WITH (KAFKA_TOPIC='t', VALUE_FORMAT='AVRO');",
)


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_the_server_takes_is_taken(text: str, server: Server) -> None:
    assert check_script(text, generated=False, server=server) == []


def test_queries_that_write_into_a_stream_keep_it_from_being_dropped(server: Server) -> None:
    insert = "INSERT INTO COPY SELECT BROKER, SYMBOL, PRICE, QTY FROM TICKS;"
    assert check_script(insert, generated=False, server=server) == []
    assert "write into this source" in check_script("DROP STREAM COPY;", server=server)[0]
    assert check_script("TERMINATE INSERTQUERY_7; DROP STREAM COPY;", generated=False, server=server) == []


def test_a_replaced_query_reads_what_the_new_one_reads(server: Server) -> None:
    replacing = "CREATE OR REPLACE STREAM COPY AS SELECT BROKER, SYMBOL, PRICE, QTY, NOTE FROM TICKS; DROP TABLE BARS;"
    assert check_script(replacing, generated=False, server=server) == []
    assert "[COPY]" in check_script("DROP STREAM TICKS;", server=server)[0]
    assert check_script("DROP STREAM COPY; DROP STREAM TICKS;", generated=False, server=server) == []


def test_a_topic_is_not_deleted_while_another_stream_reads_it(server: Server) -> None:
    declared = "CREATE STREAM AGAIN (H DECIMAL(18,6)) WITH (KAFKA_TOPIC='BARS', VALUE_FORMAT='AVRO');"
    assert check_script(declared, generated=False, server=server) == []
    assert "Found other data sources (AGAIN)" in check_script("DROP TABLE BARS DELETE TOPIC;", server=server)[0]


def test_inferred_columns_are_upper_cased_and_do_not_have_the_name_any_more(server: Server) -> None:
    script = """
    CREATE STREAM `out` WITH (KAFKA_TOPIC='out', VALUE_FORMAT='AVRO') AS SELECT BROKER, SYMBOL, TS AS `start` FROM TICKS;
    CREATE STREAM `again` WITH (KAFKA_TOPIC='out', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');"""
    problems = check_script(script, generated=False, server=server)
    assert len(problems) == 1
    assert "does not exist in the schema: 'start'" in problems[0]


HOUSE = {
    "CREATE STREAM `x` (A VARCHAR) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON');": "without backticks: A",
    "CREATE STREAM `x` (`A` VARCHAR) WITH (VALUE_FORMAT='JSON');": "KAFKA_TOPIC",
    "CREATE STREAM `x` (`A` VARCHAR, `T` TIMESTAMP) WITH (KAFKA_TOPIC='x', VALUE_FORMAT='JSON', TIMESTAMP='T');": "TIMESTAMP='T'",
    "CREATE TABLE `x` WITH (KAFKA_TOPIC='x') AS SELECT `BROKER`, COUNT(*) AS `n` FROM `TICKS`"
    " WINDOW TUMBLING (SIZE 1 DAYS, GRACE PERIOD 1 HOURS) GROUP BY `BROKER`;": "RETENTION",
    "CREATE TABLE `x` WITH (KAFKA_TOPIC='x') AS SELECT `BROKER`, COUNT(*) AS `n` FROM `TICKS`"
    " WINDOW TUMBLING (SIZE 1 DAYS, RETENTION 7 DAYS) GROUP BY `BROKER`;": "GRACE PERIOD",
    "CREATE TABLE `x` WITH (KAFKA_TOPIC='x') AS SELECT `BROKER`, COUNT(*) FROM `TICKS` GROUP BY `BROKER`;": "COUNT(..)",
    "DROP TABLE BARS;": "without backticks: BARS",
}


@pytest.mark.parametrize("text", HOUSE)
def test_generated_scripts_keep_the_house_rules(text: str, server: Server) -> None:
    problems = check_script(text, server=server)
    assert len(problems) == 1
    assert HOUSE[text] in problems[0]


def test_a_lambdas_variable_needs_no_backticks(server: Server) -> None:
    price = "REDUCE(ARRAY[`PRICE`], `PRICE`, (a, b) => a) AS `PRICE`"
    text = f"INSERT INTO `COPY` SELECT `BROKER`, `SYMBOL`, {price}, `QTY` FROM `TICKS`;"
    assert check_script(text, server=server) == []
