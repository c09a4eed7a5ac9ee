@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `arrivals_1m_final` WITH (KAFKA_TOPIC='arrivals_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  EARLIEST_BY_OFFSET(`price`) AS `first`,
  LATEST_BY_OFFSET(`buyer`) AS `last`,
  MIN(CASE WHEN `price` IS NOT NULL THEN ROWOFFSET END) AS `_first_offset_a0_at`,
  MAX(CASE WHEN `buyer` IS NOT NULL THEN ROWOFFSET END) AS `_last_offset_a1_at`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a0`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0` AS `_last_a1`,
  COUNT(`price`) AS `_count_a0`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of arrivals_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `arrivals_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `first` DECIMAL(18,6),
  `last` VARCHAR,
  `_first_offset_a0_at` BIGINT,
  `_last_offset_a1_at` BIGINT,
  `_last_a0` DECIMAL(18,6),
  `_last_a1` VARCHAR,
  `_count_a0` BIGINT
) WITH (KAFKA_TOPIC='arrivals_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `arrivals_1m_filled` WITH (KAFKA_TOPIC='arrivals_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`first`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `first`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last`, FALSE) ELSE LATEST_BY_OFFSET(`_last_a1`) END AS `last`
FROM `arrivals_1m_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `arrivals_5m_final` WITH (KAFKA_TOPIC='arrivals_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(0 - `_first_offset_a0_at`, `first`, 1)[1]->`col0` AS `first`,
  TOPK(`_last_offset_a1_at`, `last`, 1)[1]->`col0` AS `last`,
  MIN(`_first_offset_a0_at`) AS `_first_offset_a0_at`,
  MAX(`_last_offset_a1_at`) AS `_last_offset_a1_at`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`,
  SUM(`_count_a0`) AS `_count_a0`
FROM `arrivals_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of arrivals_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `arrivals_5m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `first` DECIMAL(18,6),
  `last` VARCHAR,
  `_first_offset_a0_at` BIGINT,
  `_last_offset_a1_at` BIGINT,
  `_last_a0` DECIMAL(18,6),
  `_last_a1` VARCHAR,
  `_count_a0` BIGINT
) WITH (KAFKA_TOPIC='arrivals_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `arrivals_5m_filled` WITH (KAFKA_TOPIC='arrivals_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(LATEST_BY_OFFSET(`first`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS `first`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last`, FALSE) ELSE LATEST_BY_OFFSET(`_last_a1`) END AS `last`
FROM `arrivals_5m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
