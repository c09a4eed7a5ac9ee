@settings_2

@readings

-- Heartbeats close the bars: rows of topic readings with values for sensor, at and NULL in all other columns, so the
-- schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or
-- later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
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

-- Rows of sensor_peaks_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `sensor_peaks_1m_final_declared` (
  `sensor_value` VARCHAR,
  `start` TIMESTAMP,
  `peak` DOUBLE,
  `_last_a0` DOUBLE
) WITH (KAFKA_TOPIC='sensor_peaks_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `sensor_peaks_1m_filled` WITH (KAFKA_TOPIC='sensor_peaks_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `sensor_value` AS `sensor`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`peak`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `peak`
FROM `sensor_peaks_1m_final_declared`
GROUP BY `sensor_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
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

-- Rows of sensor_peaks_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `sensor_peaks_5m_final_declared` (
  `sensor_copy` VARCHAR,
  `start` TIMESTAMP,
  `peak` DOUBLE,
  `_last_a0` DOUBLE
) WITH (KAFKA_TOPIC='sensor_peaks_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `sensor_peaks_5m_filled` WITH (KAFKA_TOPIC='sensor_peaks_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `sensor_copy` AS `sensor`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`peak`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `peak`
FROM `sensor_peaks_5m_final_declared`
GROUP BY `sensor_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
