-- Fx on ksqlDB, role all, written by kandle script.
-- ksqlDB takes all instants for milliseconds: set fields.instants = millis where kandle writes these topics.

SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';
SET 'ksql.streams.__emit.interval.ms.kstreams.windowed.aggregation__'='0';

-- Quote: topic quotes.
CREATE STREAM IF NOT EXISTS `quotes` (
  `broker` VARCHAR KEY,
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `bid` DECIMAL(18,5),
  `ask` DECIMAL(18,5)
) WITH (KAFKA_TOPIC='quotes', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

-- Heartbeats close the bars: rows of topic quotes with values for broker, symbol, time and NULL in all other columns, so
-- the schema of its values must allow NULL. Each key needs one for each bucket of 1s, at the end of the bucket + 2 SECONDS
-- or later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1s.
CREATE TABLE IF NOT EXISTS `quote_bars_1s_final` WITH (KAFKA_TOPIC='quote_bars_1s_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker`,
  `symbol`,
  AS_VALUE(`broker`) AS `broker_value`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  TOPK(CASE WHEN `bid` IS NOT NULL THEN 0 - UNIX_TIMESTAMP(`time`) END, `bid`, 1)[1]->`col0` AS `bid_open`,
  MAX(`bid`) AS `bid_high`,
  MIN(`bid`) AS `bid_low`,
  TOPK(CASE WHEN `bid` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `bid`, 1)[1]->`col0` AS `bid_close`,
  TOPK(CASE WHEN `ask` IS NOT NULL THEN 0 - UNIX_TIMESTAMP(`time`) END, `ask`, 1)[1]->`col0` AS `ask_open`,
  MAX(`ask`) AS `ask_high`,
  MIN(`ask`) AS `ask_low`,
  TOPK(CASE WHEN `ask` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `ask`, 1)[1]->`col0` AS `ask_close`
FROM `quotes`
WINDOW TUMBLING (SIZE 1 SECONDS, RETENTION 7 DAYS, GRACE PERIOD 2 SECONDS)
GROUP BY `broker`, `symbol`
EMIT FINAL;

-- Rows of quote_bars_1s_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `quote_bars_1s_final_declared` (
  `broker_value` VARCHAR,
  `symbol_value` VARCHAR,
  `bucket_start` TIMESTAMP,
  `bid_open` DECIMAL(18,5),
  `bid_high` DECIMAL(18,5),
  `bid_low` DECIMAL(18,5),
  `bid_close` DECIMAL(18,5),
  `ask_open` DECIMAL(18,5),
  `ask_high` DECIMAL(18,5),
  `ask_low` DECIMAL(18,5),
  `ask_close` DECIMAL(18,5)
) WITH (KAFKA_TOPIC='quote_bars_1s_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 1s. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `quote_bars_1s_filled` WITH (KAFKA_TOPIC='quote_bars_1s_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_value` AS `broker`,
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`bid_open`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_open`,
  COALESCE(LATEST_BY_OFFSET(`bid_high`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_high`,
  COALESCE(LATEST_BY_OFFSET(`bid_low`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  COALESCE(LATEST_BY_OFFSET(`ask_open`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_open`,
  COALESCE(LATEST_BY_OFFSET(`ask_high`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_high`,
  COALESCE(LATEST_BY_OFFSET(`ask_low`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1s_final_declared`
GROUP BY `broker_value`, `symbol_value`
HAVING LATEST_BY_OFFSET(`bid_close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `quote_bars_1m_final` WITH (KAFKA_TOPIC='quote_bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_value` AS `broker`,
  `symbol_value` AS `symbol`,
  AS_VALUE(`broker_value`) AS `broker_copy`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  EARLIEST_BY_OFFSET(`bid_open`) AS `bid_open`,
  MAX(`bid_high`) AS `bid_high`,
  MIN(`bid_low`) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  EARLIEST_BY_OFFSET(`ask_open`) AS `ask_open`,
  MAX(`ask_high`) AS `ask_high`,
  MIN(`ask_low`) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1s_final_declared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `broker_value`, `symbol_value`
EMIT FINAL;

-- Rows of quote_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `quote_bars_1m_final_declared` (
  `broker_copy` VARCHAR,
  `symbol_copy` VARCHAR,
  `bucket_start` TIMESTAMP,
  `bid_open` DECIMAL(18,5),
  `bid_high` DECIMAL(18,5),
  `bid_low` DECIMAL(18,5),
  `bid_close` DECIMAL(18,5),
  `ask_open` DECIMAL(18,5),
  `ask_high` DECIMAL(18,5),
  `ask_low` DECIMAL(18,5),
  `ask_close` DECIMAL(18,5)
) WITH (KAFKA_TOPIC='quote_bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `quote_bars_1m_filled` WITH (KAFKA_TOPIC='quote_bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_copy` AS `broker`,
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`bid_open`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_open`,
  COALESCE(LATEST_BY_OFFSET(`bid_high`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_high`,
  COALESCE(LATEST_BY_OFFSET(`bid_low`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  COALESCE(LATEST_BY_OFFSET(`ask_open`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_open`,
  COALESCE(LATEST_BY_OFFSET(`ask_high`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_high`,
  COALESCE(LATEST_BY_OFFSET(`ask_low`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1m_final_declared`
GROUP BY `broker_copy`, `symbol_copy`
HAVING LATEST_BY_OFFSET(`bid_close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `quote_bars_5m_final` WITH (KAFKA_TOPIC='quote_bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_copy` AS `broker`,
  `symbol_copy` AS `symbol`,
  AS_VALUE(`broker_copy`) AS `broker_value`,
  AS_VALUE(`symbol_copy`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  EARLIEST_BY_OFFSET(`bid_open`) AS `bid_open`,
  MAX(`bid_high`) AS `bid_high`,
  MIN(`bid_low`) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  EARLIEST_BY_OFFSET(`ask_open`) AS `ask_open`,
  MAX(`ask_high`) AS `ask_high`,
  MIN(`ask_low`) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `broker_copy`, `symbol_copy`
EMIT FINAL;

-- Rows of quote_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `quote_bars_5m_final_declared` (
  `broker_value` VARCHAR,
  `symbol_value` VARCHAR,
  `bucket_start` TIMESTAMP,
  `bid_open` DECIMAL(18,5),
  `bid_high` DECIMAL(18,5),
  `bid_low` DECIMAL(18,5),
  `bid_close` DECIMAL(18,5),
  `ask_open` DECIMAL(18,5),
  `ask_high` DECIMAL(18,5),
  `ask_low` DECIMAL(18,5),
  `ask_close` DECIMAL(18,5)
) WITH (KAFKA_TOPIC='quote_bars_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `quote_bars_5m_filled` WITH (KAFKA_TOPIC='quote_bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_value` AS `broker`,
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`bid_open`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_open`,
  COALESCE(LATEST_BY_OFFSET(`bid_high`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_high`,
  COALESCE(LATEST_BY_OFFSET(`bid_low`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  COALESCE(LATEST_BY_OFFSET(`ask_open`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_open`,
  COALESCE(LATEST_BY_OFFSET(`ask_high`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_high`,
  COALESCE(LATEST_BY_OFFSET(`ask_low`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_5m_final_declared`
GROUP BY `broker_value`, `symbol_value`
HAVING LATEST_BY_OFFSET(`bid_close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1h.
CREATE TABLE IF NOT EXISTS `quote_bars_1h_final` WITH (KAFKA_TOPIC='quote_bars_1h_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_copy` AS `broker`,
  `symbol_copy` AS `symbol`,
  AS_VALUE(`broker_copy`) AS `broker_value`,
  AS_VALUE(`symbol_copy`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  EARLIEST_BY_OFFSET(`bid_open`) AS `bid_open`,
  MAX(`bid_high`) AS `bid_high`,
  MIN(`bid_low`) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  EARLIEST_BY_OFFSET(`ask_open`) AS `ask_open`,
  MAX(`ask_high`) AS `ask_high`,
  MIN(`ask_low`) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 1 HOURS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `broker_copy`, `symbol_copy`
EMIT FINAL;

-- Rows of quote_bars_1h_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `quote_bars_1h_final_declared` (
  `broker_value` VARCHAR,
  `symbol_value` VARCHAR,
  `bucket_start` TIMESTAMP,
  `bid_open` DECIMAL(18,5),
  `bid_high` DECIMAL(18,5),
  `bid_low` DECIMAL(18,5),
  `bid_close` DECIMAL(18,5),
  `ask_open` DECIMAL(18,5),
  `ask_high` DECIMAL(18,5),
  `ask_low` DECIMAL(18,5),
  `ask_close` DECIMAL(18,5)
) WITH (KAFKA_TOPIC='quote_bars_1h_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 1h. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `quote_bars_1h_filled` WITH (KAFKA_TOPIC='quote_bars_1h_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_value` AS `broker`,
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`bid_open`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_open`,
  COALESCE(LATEST_BY_OFFSET(`bid_high`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_high`,
  COALESCE(LATEST_BY_OFFSET(`bid_low`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  COALESCE(LATEST_BY_OFFSET(`ask_open`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_open`,
  COALESCE(LATEST_BY_OFFSET(`ask_high`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_high`,
  COALESCE(LATEST_BY_OFFSET(`ask_low`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1h_final_declared`
GROUP BY `broker_value`, `symbol_value`
HAVING LATEST_BY_OFFSET(`bid_close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1d.
CREATE TABLE IF NOT EXISTS `quote_bars_1d_final` WITH (KAFKA_TOPIC='quote_bars_1d_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_value` AS `broker`,
  `symbol_value` AS `symbol`,
  AS_VALUE(`broker_value`) AS `broker_copy`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  EARLIEST_BY_OFFSET(`bid_open`) AS `bid_open`,
  MAX(`bid_high`) AS `bid_high`,
  MIN(`bid_low`) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  EARLIEST_BY_OFFSET(`ask_open`) AS `ask_open`,
  MAX(`ask_high`) AS `ask_high`,
  MIN(`ask_low`) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1h_final_declared`
WINDOW TUMBLING (SIZE 1 DAYS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `broker_value`, `symbol_value`
EMIT FINAL;

-- Rows of quote_bars_1d_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `quote_bars_1d_final_declared` (
  `broker_copy` VARCHAR,
  `symbol_copy` VARCHAR,
  `bucket_start` TIMESTAMP,
  `bid_open` DECIMAL(18,5),
  `bid_high` DECIMAL(18,5),
  `bid_low` DECIMAL(18,5),
  `bid_close` DECIMAL(18,5),
  `ask_open` DECIMAL(18,5),
  `ask_high` DECIMAL(18,5),
  `ask_low` DECIMAL(18,5),
  `ask_close` DECIMAL(18,5)
) WITH (KAFKA_TOPIC='quote_bars_1d_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket_start`');

-- Final bars of 1d. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `quote_bars_1d_filled` WITH (KAFKA_TOPIC='quote_bars_1d_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_copy` AS `broker`,
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`bucket_start`, FALSE) AS `bucket_start`,
  COALESCE(LATEST_BY_OFFSET(`bid_open`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_open`,
  COALESCE(LATEST_BY_OFFSET(`bid_high`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_high`,
  COALESCE(LATEST_BY_OFFSET(`bid_low`, FALSE), LATEST_BY_OFFSET(`bid_close`)) AS `bid_low`,
  LATEST_BY_OFFSET(`bid_close`) AS `bid_close`,
  COALESCE(LATEST_BY_OFFSET(`ask_open`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_open`,
  COALESCE(LATEST_BY_OFFSET(`ask_high`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_high`,
  COALESCE(LATEST_BY_OFFSET(`ask_low`, FALSE), LATEST_BY_OFFSET(`ask_close`)) AS `ask_low`,
  LATEST_BY_OFFSET(`ask_close`) AS `ask_close`
FROM `quote_bars_1d_final_declared`
GROUP BY `broker_copy`, `symbol_copy`
HAVING LATEST_BY_OFFSET(`bid_close`) IS NOT NULL
EMIT CHANGES;
