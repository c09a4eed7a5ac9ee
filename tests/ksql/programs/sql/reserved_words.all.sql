@settings_2

-- Reserved: topic reserved.
CREATE STREAM IF NOT EXISTS `reserved` (
  `select` VARCHAR KEY,
  `timestamp` TIMESTAMP,
  `group` BIGINT,
  `size` BIGINT,
  `values` VARCHAR
) WITH (KAFKA_TOPIC='reserved', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`timestamp`');

-- Heartbeats close the bars: rows of topic reserved with values for select, timestamp and NULL in all other columns, so
-- the schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS
-- or later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `reserved_bars_1m_final` WITH (KAFKA_TOPIC='reserved_bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `select`,
  AS_VALUE(`select`) AS `select_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `window`,
  MAX(`group`) AS `group`,
  SUM(`size`) AS `limit`,
  COUNT(`values`) AS `having`,
  TOPK(CASE WHEN `group` IS NOT NULL THEN FORMAT_TIMESTAMP(`timestamp`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `group`, 1)[1]->`col0` AS `_last_a0`
FROM `reserved`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `select`
EMIT FINAL;

-- Rows of reserved_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `reserved_bars_1m_final_declared` (
  `select_value` VARCHAR,
  `window` TIMESTAMP,
  `group` BIGINT,
  `limit` BIGINT,
  `having` BIGINT,
  `_last_a0` BIGINT
) WITH (KAFKA_TOPIC='reserved_bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`window`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `reserved_bars_1m_filled` WITH (KAFKA_TOPIC='reserved_bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `select_value` AS `select`,
  LATEST_BY_OFFSET(`window`, FALSE) AS `window`,
  COALESCE(LATEST_BY_OFFSET(`group`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `group`,
  LATEST_BY_OFFSET(`limit`, FALSE) AS `limit`,
  LATEST_BY_OFFSET(`having`, FALSE) AS `having`
FROM `reserved_bars_1m_final_declared`
GROUP BY `select_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `reserved_bars_5m_final` WITH (KAFKA_TOPIC='reserved_bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `select_value` AS `select`,
  AS_VALUE(`select_value`) AS `select_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `window`,
  MAX(`group`) AS `group`,
  SUM(`limit`) AS `limit`,
  SUM(`having`) AS `having`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`
FROM `reserved_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `select_value`
EMIT FINAL;

-- Rows of reserved_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `reserved_bars_5m_final_declared` (
  `select_copy` VARCHAR,
  `window` TIMESTAMP,
  `group` BIGINT,
  `limit` BIGINT,
  `having` BIGINT,
  `_last_a0` BIGINT
) WITH (KAFKA_TOPIC='reserved_bars_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`window`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `reserved_bars_5m_filled` WITH (KAFKA_TOPIC='reserved_bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `select_copy` AS `select`,
  LATEST_BY_OFFSET(`window`, FALSE) AS `window`,
  COALESCE(LATEST_BY_OFFSET(`group`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `group`,
  LATEST_BY_OFFSET(`limit`, FALSE) AS `limit`,
  LATEST_BY_OFFSET(`having`, FALSE) AS `having`
FROM `reserved_bars_5m_final_declared`
GROUP BY `select_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
