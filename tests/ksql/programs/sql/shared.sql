@heartbeats_close_the
-- Heartbeats close the bars: rows of topic trades with values for symbol, time and NULL in all other columns, so the
-- schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or
-- later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

@instruments
-- Instrument: topic instruments.
CREATE TABLE IF NOT EXISTS `instruments` (
  `code` VARCHAR PRIMARY KEY,
  `lot` BIGINT,
  `time` TIMESTAMP,
  `name` VARCHAR
) WITH (KAFKA_TOPIC='instruments', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO');

@kandle_decides_which
-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.

@kandle_decides_which_2
-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.
-- kandle makes bars of 5m from those of 1m.

@line_bars_1m_filled
-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `line_bars_1m_filled` WITH (KAFKA_TOPIC='line_bars_1m_filled', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code_value` AS `code`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`price`) AS `price`
FROM `line_bars_1m_final_declared`
GROUP BY `code_value`
HAVING LATEST_BY_OFFSET(`price`) IS NOT NULL
EMIT CHANGES;

@line_bars_1m_final_declared
-- Rows of line_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `line_bars_1m_final_declared` (
  `code_value` VARCHAR,
  `start` TIMESTAMP,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='line_bars_1m_final', VALUE_FORMAT='JSON', TIMESTAMP='`start`');

@lots_1m_filled
-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_1m_filled` WITH (KAFKA_TOPIC='lots_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_1m_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;

@lots_1m_final_declared
-- Rows of lots_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

@lots_1m_live
-- Open LotBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `lots_1m_live` WITH (KAFKA_TOPIC='lots_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;

@lots_5m_final
-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `lots_5m_final` WITH (KAFKA_TOPIC='lots_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`lots`) AS `lots`,
  MAX(`high`) AS `high`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`
FROM `lots_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

@lots_5m_final_declared
-- Rows of lots_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_5m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

@quotes
-- Quote: topic quotes.
CREATE STREAM IF NOT EXISTS `quotes` (
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `venue` VARCHAR
) WITH (KAFKA_TOPIC='quotes', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

@readings
-- Reading: topic readings.
CREATE STREAM IF NOT EXISTS `readings` (
  `sensor` VARCHAR,
  `at` TIMESTAMP,
  `value` DOUBLE
) WITH (KAFKA_TOPIC='readings', PARTITIONS=1, VALUE_FORMAT='AVRO', TIMESTAMP='`at`');

@sessions
-- Session: topic sessions.
CREATE TABLE IF NOT EXISTS `sessions` (
  `broker` VARCHAR PRIMARY KEY,
  `symbol` VARCHAR PRIMARY KEY,
  `trading_date` DATE PRIMARY KEY,
  `open_at` TIMESTAMP,
  `close_at` TIMESTAMP
) WITH (KAFKA_TOPIC='sessions', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO');

@sessions_by_key
-- Sessions of Session by key, written by kandle. The id is the parts of the key, separated by | (in all but the last, % is
-- written as %25 and | as %7C). The time of a row is the start of its first session, since ksqlDB processes records in the
-- order of their times.
CREATE TABLE IF NOT EXISTS `sessions_by_key` (
  `id` VARCHAR PRIMARY KEY,
  `since` TIMESTAMP,
  `intervals` ARRAY<STRUCT<`open` TIMESTAMP, `close` TIMESTAMP>>
) WITH (KAFKA_TOPIC='sessions_by_key', PARTITIONS=2, KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON', TIMESTAMP='`since`');

@settings
SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';

@settings_2
SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';
SET 'ksql.streams.__emit.interval.ms.kstreams.windowed.aggregation__'='0';

@ticks
-- Tick: topic ticks.
CREATE STREAM IF NOT EXISTS `ticks` (
  `broker` VARCHAR KEY,
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `bid` DECIMAL(18,6),
  `size` BIGINT,
  `note` VARCHAR,
  `fee` DECIMAL(10,2)
) WITH (KAFKA_TOPIC='ticks', PARTITIONS=2, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

@trades
-- Trade: topic trades.
CREATE STREAM IF NOT EXISTS `trades` (
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `size` BIGINT,
  `buyer` VARCHAR,
  `ratio` DOUBLE,
  `active` BOOLEAN,
  `settles` DATE,
  `seen` TIMESTAMP,
  `fine` DECIMAL(30,12)
) WITH (KAFKA_TOPIC='trades', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');
