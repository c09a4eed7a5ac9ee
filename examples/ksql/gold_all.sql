-- Gold on ksqlDB, role all, written by kandle script.
-- ksqlDB takes all instants for milliseconds: set fields.instants = millis where kandle writes these topics.

SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';
SET 'ksql.streams.__emit.interval.ms.kstreams.windowed.aggregation__'='0';

-- Trade: topic gold_trades.
CREATE STREAM IF NOT EXISTS `gold_trades` (
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `size` BIGINT
) WITH (KAFKA_TOPIC='gold_trades', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

-- Heartbeats close the bars: rows of topic gold_trades with values for symbol, time and NULL in all other columns, so the
-- schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 2 SECONDS or
-- later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `gold_bars_1m_final` WITH (KAFKA_TOPIC='gold_bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN 0 - UNIX_TIMESTAMP(`time`) END, `price`, 1)[1]->`col0` AS `open`,
  MAX(`price`) AS `high`,
  MIN(`price`) AS `low`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `close`,
  SUM(`size`) AS `volume`
FROM `gold_trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 2 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of gold_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `gold_bars_1m_final_declared` (
  `symbol_value` VARCHAR,
  `bucket_start` TIMESTAMP,
  `open` DECIMAL(18,6),
  `high` DECIMAL(18,6),
  `low` DECIMAL(18,6),
  `close` DECIMAL(18,6),
  `volume` BIGINT
) WITH (KAFKA_TOPIC='gold_bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `gold_bars_1m_filled` WITH (KAFKA_TOPIC='gold_bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`open`, FALSE), LATEST_BY_OFFSET(`close`)) AS `open`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`close`)) AS `high`,
  COALESCE(LATEST_BY_OFFSET(`low`, FALSE), LATEST_BY_OFFSET(`close`)) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`
FROM `gold_bars_1m_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `gold_bars_5m_final` WITH (KAFKA_TOPIC='gold_bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  EARLIEST_BY_OFFSET(`open`) AS `open`,
  MAX(`high`) AS `high`,
  MIN(`low`) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  SUM(`volume`) AS `volume`
FROM `gold_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of gold_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `gold_bars_5m_final_declared` (
  `symbol_copy` VARCHAR,
  `bucket_start` TIMESTAMP,
  `open` DECIMAL(18,6),
  `high` DECIMAL(18,6),
  `low` DECIMAL(18,6),
  `close` DECIMAL(18,6),
  `volume` BIGINT
) WITH (KAFKA_TOPIC='gold_bars_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `gold_bars_5m_filled` WITH (KAFKA_TOPIC='gold_bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`open`, FALSE), LATEST_BY_OFFSET(`close`)) AS `open`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`close`)) AS `high`,
  COALESCE(LATEST_BY_OFFSET(`low`, FALSE), LATEST_BY_OFFSET(`close`)) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`
FROM `gold_bars_5m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1h.
CREATE TABLE IF NOT EXISTS `gold_bars_1h_final` WITH (KAFKA_TOPIC='gold_bars_1h_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  EARLIEST_BY_OFFSET(`open`) AS `open`,
  MAX(`high`) AS `high`,
  MIN(`low`) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  SUM(`volume`) AS `volume`
FROM `gold_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 1 HOURS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of gold_bars_1h_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `gold_bars_1h_final_declared` (
  `symbol_copy` VARCHAR,
  `bucket_start` TIMESTAMP,
  `open` DECIMAL(18,6),
  `high` DECIMAL(18,6),
  `low` DECIMAL(18,6),
  `close` DECIMAL(18,6),
  `volume` BIGINT
) WITH (KAFKA_TOPIC='gold_bars_1h_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 1h. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `gold_bars_1h_filled` WITH (KAFKA_TOPIC='gold_bars_1h_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`open`, FALSE), LATEST_BY_OFFSET(`close`)) AS `open`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`close`)) AS `high`,
  COALESCE(LATEST_BY_OFFSET(`low`, FALSE), LATEST_BY_OFFSET(`close`)) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`
FROM `gold_bars_1h_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1d.
CREATE TABLE IF NOT EXISTS `gold_bars_1d_final` WITH (KAFKA_TOPIC='gold_bars_1d_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  AS_VALUE(`symbol_copy`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  EARLIEST_BY_OFFSET(`open`) AS `open`,
  MAX(`high`) AS `high`,
  MIN(`low`) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  SUM(`volume`) AS `volume`
FROM `gold_bars_1h_final_declared`
WINDOW TUMBLING (SIZE 1 DAYS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_copy`
EMIT FINAL;

-- Rows of gold_bars_1d_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `gold_bars_1d_final_declared` (
  `symbol_value` VARCHAR,
  `bucket_start` TIMESTAMP,
  `open` DECIMAL(18,6),
  `high` DECIMAL(18,6),
  `low` DECIMAL(18,6),
  `close` DECIMAL(18,6),
  `volume` BIGINT
) WITH (KAFKA_TOPIC='gold_bars_1d_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 1d. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `gold_bars_1d_filled` WITH (KAFKA_TOPIC='gold_bars_1d_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`open`, FALSE), LATEST_BY_OFFSET(`close`)) AS `open`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`close`)) AS `high`,
  COALESCE(LATEST_BY_OFFSET(`low`, FALSE), LATEST_BY_OFFSET(`close`)) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`
FROM `gold_bars_1d_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`close`) IS NOT NULL
EMIT CHANGES;
