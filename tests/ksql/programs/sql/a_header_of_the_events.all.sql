@settings_2

-- Traced: topic traced.
CREATE STREAM IF NOT EXISTS `traced` (
  `name` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `source` BYTES HEADER('source-id')
) WITH (KAFKA_TOPIC='traced', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

-- Heartbeats close the bars: rows of topic traced with values for name, time and NULL in all other columns, so the schema
-- of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or later.
-- A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `traced_bars_1m_final` WITH (KAFKA_TOPIC='traced_bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `name`,
  AS_VALUE(`name`) AS `name_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`price`) AS `highest`,
  COUNT(FROM_BYTES(`source`, 'utf8')) AS `sources`,
  TOPK(CASE WHEN FROM_BYTES(`source`, 'utf8') IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, FROM_BYTES(`source`, 'utf8'), 1)[1]->`col0` AS `last_source`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a0`,
  COUNT(`price`) AS `_count_a0`
FROM `traced`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
WHERE (COALESCE(FROM_BYTES(`source`, 'utf8'), 'unknown') <> 'test') OR (`price` IS NULL)
GROUP BY `name`
EMIT FINAL;

-- Rows of traced_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `traced_bars_1m_final_declared` (
  `name_value` VARCHAR,
  `start` TIMESTAMP,
  `highest` DECIMAL(18,6),
  `sources` BIGINT,
  `last_source` VARCHAR,
  `_last_a0` DECIMAL(18,6),
  `_count_a0` BIGINT
) WITH (KAFKA_TOPIC='traced_bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `traced_bars_1m_filled` WITH (KAFKA_TOPIC='traced_bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `name_value` AS `name`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`highest`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `highest`,
  LATEST_BY_OFFSET(`sources`, FALSE) AS `sources`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_source`, FALSE) ELSE LATEST_BY_OFFSET(`last_source`) END AS `last_source`
FROM `traced_bars_1m_final_declared`
GROUP BY `name_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `traced_bars_5m_final` WITH (KAFKA_TOPIC='traced_bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `name_value` AS `name`,
  AS_VALUE(`name_value`) AS `name_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`highest`) AS `highest`,
  SUM(`sources`) AS `sources`,
  LATEST_BY_OFFSET(`last_source`) AS `last_source`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`,
  SUM(`_count_a0`) AS `_count_a0`
FROM `traced_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `name_value`
EMIT FINAL;

-- Rows of traced_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `traced_bars_5m_final_declared` (
  `name_copy` VARCHAR,
  `start` TIMESTAMP,
  `highest` DECIMAL(18,6),
  `sources` BIGINT,
  `last_source` VARCHAR,
  `_last_a0` DECIMAL(18,6),
  `_count_a0` BIGINT
) WITH (KAFKA_TOPIC='traced_bars_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `traced_bars_5m_filled` WITH (KAFKA_TOPIC='traced_bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `name_copy` AS `name`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`highest`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `highest`,
  LATEST_BY_OFFSET(`sources`, FALSE) AS `sources`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_source`, FALSE) ELSE LATEST_BY_OFFSET(`last_source`) END AS `last_source`
FROM `traced_bars_5m_final_declared`
GROUP BY `name_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
