@settings_2

@readings

-- Heartbeats close the bars: rows of topic readings that have sensor, at, and NULL in all other columns, so the schema of
-- its values must allow NULL. There is one for each key and bucket of 1m, at the end of the bucket + 0 SECONDS or later. A
-- bucket is a bar only if an event or a heartbeat fell into it.
-- Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its source
-- later still. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, but after a restart they are
-- taken until a newer row comes. Partitions that are read unevenly after an absence make events late.
-- In _final a bar without events has NULL, its sums and counts 0. In _filled the last values are carried on.

-- Finals of 1m.
CREATE TABLE IF NOT EXISTS `sensor_peaks_1m_final` WITH (KAFKA_TOPIC='sensor_peaks_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `sensor`,
  AS_VALUE(`sensor`) AS `sensor_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `peak`,
  TOPK(CASE WHEN `value` IS NOT NULL THEN FORMAT_TIMESTAMP(`at`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `value`, 1)[1]->`col0` AS `_last_a0`
FROM `readings`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `sensor`
EMIT FINAL;

-- Rows of sensor_peaks_1m_final, at their start.
CREATE STREAM IF NOT EXISTS `sensor_peaks_1m_final_declared` (
  `sensor_value` VARCHAR,
  `start` TIMESTAMP,
  `peak` DOUBLE,
  `_last_a0` DOUBLE
) WITH (KAFKA_TOPIC='sensor_peaks_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Bars of 1m, one change each, with the last values carried on where nothing happened.
CREATE TABLE IF NOT EXISTS `sensor_peaks_1m_filled` WITH (KAFKA_TOPIC='sensor_peaks_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `sensor_value` AS `sensor`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`peak`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `peak`
FROM `sensor_peaks_1m_final_declared`
GROUP BY `sensor_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Finals of 5m.
CREATE TABLE IF NOT EXISTS `sensor_peaks_5m_final` WITH (KAFKA_TOPIC='sensor_peaks_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `sensor_value` AS `sensor`,
  AS_VALUE(`sensor_value`) AS `sensor_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`peak`) AS `peak`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`
FROM `sensor_peaks_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `sensor_value`
EMIT FINAL;

-- Rows of sensor_peaks_5m_final, at their start.
CREATE STREAM IF NOT EXISTS `sensor_peaks_5m_final_declared` (
  `sensor_copy` VARCHAR,
  `start` TIMESTAMP,
  `peak` DOUBLE,
  `_last_a0` DOUBLE
) WITH (KAFKA_TOPIC='sensor_peaks_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Bars of 5m, one change each, with the last values carried on where nothing happened.
CREATE TABLE IF NOT EXISTS `sensor_peaks_5m_filled` WITH (KAFKA_TOPIC='sensor_peaks_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `sensor_copy` AS `sensor`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`peak`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `peak`
FROM `sensor_peaks_5m_final_declared`
GROUP BY `sensor_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
