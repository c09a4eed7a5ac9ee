@settings_2

-- Probe: topic 2-probes.raw.
CREATE STREAM IF NOT EXISTS `t_2_probes_raw` (
  `plant` VARCHAR KEY,
  `line` BIGINT KEY,
  `taken` VARCHAR,
  `value` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='2-probes.raw', PARTITIONS=2, KEY_FORMAT='AVRO', VALUE_FORMAT='JSON', TIMESTAMP='`taken`', TIMESTAMP_FORMAT='yyyy-MM-dd''T''HH:mm:ss.SSSxx');

-- Heartbeats close the bars: rows of topic 2-probes.raw with values for plant, line, taken and NULL in all other columns,
-- so the schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0
-- SECONDS or later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `probe_bars_1m_final` WITH (KAFKA_TOPIC='probe-bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `plant`,
  `line`,
  AS_VALUE(`plant`) AS `plant_value`,
  AS_VALUE(`line`) AS `line_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `value`,
  TOPK(CASE WHEN `value` IS NOT NULL THEN FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`taken`, 'yyyy-MM-dd''T''HH:mm:ss.SSSxx'), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `value`, 1)[1]->`col0` AS `_last_a0`
FROM `t_2_probes_raw`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `plant`, `line`
EMIT FINAL;

-- Rows of probe_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `probe_bars_1m_final_declared` (
  `plant_value` VARCHAR,
  `line_value` BIGINT,
  `start` TIMESTAMP,
  `value` DECIMAL(9,2),
  `_last_a0` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='probe-bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `probe_bars_1m_filled` WITH (KAFKA_TOPIC='probe-bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `plant_value` AS `plant`,
  `line_value` AS `line`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`value`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `value`
FROM `probe_bars_1m_final_declared`
GROUP BY `plant_value`, `line_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `probe_bars_5m_final` WITH (KAFKA_TOPIC='probe-bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `plant_value` AS `plant`,
  `line_value` AS `line`,
  AS_VALUE(`plant_value`) AS `plant_copy`,
  AS_VALUE(`line_value`) AS `line_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `value`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`
FROM `probe_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `plant_value`, `line_value`
EMIT FINAL;

-- Rows of probe_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `probe_bars_5m_final_declared` (
  `plant_copy` VARCHAR,
  `line_copy` BIGINT,
  `start` TIMESTAMP,
  `value` DECIMAL(9,2),
  `_last_a0` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='probe-bars_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `probe_bars_5m_filled` WITH (KAFKA_TOPIC='probe-bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `plant_copy` AS `plant`,
  `line_copy` AS `line`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`value`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `value`
FROM `probe_bars_5m_final_declared`
GROUP BY `plant_copy`, `line_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
