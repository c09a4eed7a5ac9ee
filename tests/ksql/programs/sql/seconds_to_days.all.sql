@settings_2

@trades

-- Heartbeats close the bars: rows of topic trades with values for symbol, time and NULL in all other columns, so the
-- schema of its values must allow NULL. Each key needs one for each bucket of 1s, at the end of the bucket + 0 SECONDS or
-- later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1s.
CREATE TABLE IF NOT EXISTS `lots_1s_final` WITH (KAFKA_TOPIC='lots_1s_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 1 SECONDS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of lots_1s_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_1s_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_1s_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1s. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_1s_filled` WITH (KAFKA_TOPIC='lots_1s_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_1s_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 15s.
CREATE TABLE IF NOT EXISTS `lots_15s_final` WITH (KAFKA_TOPIC='lots_15s_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`lots`) AS `lots`,
  MAX(`high`) AS `high`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`
FROM `lots_1s_final_declared`
WINDOW TUMBLING (SIZE 15 SECONDS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of lots_15s_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_15s_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_15s_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 15s. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_15s_filled` WITH (KAFKA_TOPIC='lots_15s_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_15s_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `lots_1m_final` WITH (KAFKA_TOPIC='lots_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`lots`) AS `lots`,
  MAX(`high`) AS `high`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`
FROM `lots_1s_final_declared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of lots_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_1m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_1m_filled` WITH (KAFKA_TOPIC='lots_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_1m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1h.
CREATE TABLE IF NOT EXISTS `lots_1h_final` WITH (KAFKA_TOPIC='lots_1h_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  AS_VALUE(`symbol_copy`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`lots`) AS `lots`,
  MAX(`high`) AS `high`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`
FROM `lots_1m_final_declared`
WINDOW TUMBLING (SIZE 1 HOURS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_copy`
EMIT FINAL;

-- Rows of lots_1h_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_1h_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_1h_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1h. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_1h_filled` WITH (KAFKA_TOPIC='lots_1h_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_1h_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 1d.
CREATE TABLE IF NOT EXISTS `lots_1d_final` WITH (KAFKA_TOPIC='lots_1d_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`lots`) AS `lots`,
  MAX(`high`) AS `high`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`
FROM `lots_1h_final_declared`
WINDOW TUMBLING (SIZE 1 DAYS, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of lots_1d_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_1d_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_1d_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1d. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_1d_filled` WITH (KAFKA_TOPIC='lots_1d_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_1d_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;
