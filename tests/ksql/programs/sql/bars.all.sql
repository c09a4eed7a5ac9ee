@settings_2

@ticks

-- Heartbeats close the bars: rows of topic ticks with values for broker, symbol, time and NULL in all other columns, so
-- the schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 5 SECONDS
-- or later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `bars_1m_final` WITH (KAFKA_TOPIC='bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker`,
  `symbol`,
  AS_VALUE(`broker`) AS `broker_value`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN `bid` IS NOT NULL THEN 0 - UNIX_TIMESTAMP(`time`) END, `bid`, 1)[1]->`col0` AS `open`,
  MAX(`bid`) AS `high`,
  MIN(`bid`) AS `low`,
  TOPK(CASE WHEN `bid` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `bid`, 1)[1]->`col0` AS `close`,
  SUM(`size`) AS `volume`
FROM `ticks`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 5 SECONDS)
GROUP BY `broker`, `symbol`
EMIT FINAL;

-- Rows of bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `bars_1m_final_declared` (
  `broker_value` VARCHAR,
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `open` DECIMAL(18,6),
  `high` DECIMAL(18,6),
  `low` DECIMAL(18,6),
  `close` DECIMAL(18,6),
  `volume` BIGINT
) WITH (KAFKA_TOPIC='bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `bars_1m_filled` WITH (KAFKA_TOPIC='bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_value` AS `broker`,
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`open`, FALSE), LATEST_BY_OFFSET(`close`)) AS `open`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`close`)) AS `high`,
  COALESCE(LATEST_BY_OFFSET(`low`, FALSE), LATEST_BY_OFFSET(`close`)) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`
FROM `bars_1m_final_declared`
GROUP BY `broker_value`, `symbol_value`
HAVING LATEST_BY_OFFSET(`close`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `bars_5m_final` WITH (KAFKA_TOPIC='bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_value` AS `broker`,
  `symbol_value` AS `symbol`,
  AS_VALUE(`broker_value`) AS `broker_copy`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  EARLIEST_BY_OFFSET(`open`) AS `open`,
  MAX(`high`) AS `high`,
  MIN(`low`) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  SUM(`volume`) AS `volume`
FROM `bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `broker_value`, `symbol_value`
EMIT FINAL;

-- Rows of bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `bars_5m_final_declared` (
  `broker_copy` VARCHAR,
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `open` DECIMAL(18,6),
  `high` DECIMAL(18,6),
  `low` DECIMAL(18,6),
  `close` DECIMAL(18,6),
  `volume` BIGINT
) WITH (KAFKA_TOPIC='bars_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `bars_5m_filled` WITH (KAFKA_TOPIC='bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker_copy` AS `broker`,
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`open`, FALSE), LATEST_BY_OFFSET(`close`)) AS `open`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`close`)) AS `high`,
  COALESCE(LATEST_BY_OFFSET(`low`, FALSE), LATEST_BY_OFFSET(`close`)) AS `low`,
  LATEST_BY_OFFSET(`close`) AS `close`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`
FROM `bars_5m_final_declared`
GROUP BY `broker_copy`, `symbol_copy`
HAVING LATEST_BY_OFFSET(`close`) IS NOT NULL
EMIT CHANGES;
