@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `ends_1m_final` WITH (KAFKA_TOPIC='ends_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN 0 - UNIX_TIMESTAMP(`time`) END, `buyer`, 1)[1]->`col0` AS `first_buyer`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0` AS `last_buyer`,
  TOPK(CASE WHEN `active` IS NOT NULL THEN 0 - UNIX_TIMESTAMP(`time`) END, `active`, 1)[1]->`col0` AS `first_active`,
  TOPK(CASE WHEN `seen` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `seen`, 1)[1]->`col0` AS `last_seen`,
  MIN(`settles`) AS `least_day`,
  MAX(CASE WHEN `price` IS NOT NULL THEN `symbol` END) AS `greatest_symbol`,
  TOPK(CASE WHEN `active` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `active`, 1)[1]->`col0` AS `_last_a1`,
  TOPK(CASE WHEN `settles` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `settles`, 1)[1]->`col0` AS `_last_a3`,
  TOPK(CASE WHEN CASE WHEN `price` IS NOT NULL THEN `symbol` END IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, CASE WHEN `price` IS NOT NULL THEN `symbol` END, 1)[1]->`col0` AS `_last_a4`,
  COUNT(`price`) AS `_count`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of ends_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `ends_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `first_buyer` VARCHAR,
  `last_buyer` VARCHAR,
  `first_active` BOOLEAN,
  `last_seen` TIMESTAMP,
  `least_day` DATE,
  `greatest_symbol` VARCHAR,
  `_last_a1` BOOLEAN,
  `_last_a3` DATE,
  `_last_a4` VARCHAR,
  `_count` BIGINT
) WITH (KAFKA_TOPIC='ends_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `ends_1m_filled` WITH (KAFKA_TOPIC='ends_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  CASE WHEN LATEST_BY_OFFSET(`_count`, FALSE) > 0 THEN LATEST_BY_OFFSET(`first_buyer`, FALSE) ELSE LATEST_BY_OFFSET(`last_buyer`) END AS `first_buyer`,
  CASE WHEN LATEST_BY_OFFSET(`_count`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_buyer`, FALSE) ELSE LATEST_BY_OFFSET(`last_buyer`) END AS `last_buyer`,
  COALESCE(LATEST_BY_OFFSET(`first_active`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `first_active`,
  CASE WHEN LATEST_BY_OFFSET(`_count`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_seen`, FALSE) ELSE LATEST_BY_OFFSET(`last_seen`) END AS `last_seen`,
  COALESCE(LATEST_BY_OFFSET(`least_day`, FALSE), LATEST_BY_OFFSET(`_last_a3`)) AS `least_day`,
  COALESCE(LATEST_BY_OFFSET(`greatest_symbol`, FALSE), LATEST_BY_OFFSET(`_last_a4`)) AS `greatest_symbol`
FROM `ends_1m_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `ends_5m_final` WITH (KAFKA_TOPIC='ends_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  EARLIEST_BY_OFFSET(`first_buyer`) AS `first_buyer`,
  LATEST_BY_OFFSET(`last_buyer`) AS `last_buyer`,
  EARLIEST_BY_OFFSET(`first_active`) AS `first_active`,
  LATEST_BY_OFFSET(`last_seen`) AS `last_seen`,
  MIN(`least_day`) AS `least_day`,
  MAX(`greatest_symbol`) AS `greatest_symbol`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`,
  LATEST_BY_OFFSET(`_last_a3`) AS `_last_a3`,
  LATEST_BY_OFFSET(`_last_a4`) AS `_last_a4`,
  SUM(`_count`) AS `_count`
FROM `ends_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of ends_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `ends_5m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `first_buyer` VARCHAR,
  `last_buyer` VARCHAR,
  `first_active` BOOLEAN,
  `last_seen` TIMESTAMP,
  `least_day` DATE,
  `greatest_symbol` VARCHAR,
  `_last_a1` BOOLEAN,
  `_last_a3` DATE,
  `_last_a4` VARCHAR,
  `_count` BIGINT
) WITH (KAFKA_TOPIC='ends_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `ends_5m_filled` WITH (KAFKA_TOPIC='ends_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  CASE WHEN LATEST_BY_OFFSET(`_count`, FALSE) > 0 THEN LATEST_BY_OFFSET(`first_buyer`, FALSE) ELSE LATEST_BY_OFFSET(`last_buyer`) END AS `first_buyer`,
  CASE WHEN LATEST_BY_OFFSET(`_count`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_buyer`, FALSE) ELSE LATEST_BY_OFFSET(`last_buyer`) END AS `last_buyer`,
  COALESCE(LATEST_BY_OFFSET(`first_active`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `first_active`,
  CASE WHEN LATEST_BY_OFFSET(`_count`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_seen`, FALSE) ELSE LATEST_BY_OFFSET(`last_seen`) END AS `last_seen`,
  COALESCE(LATEST_BY_OFFSET(`least_day`, FALSE), LATEST_BY_OFFSET(`_last_a3`)) AS `least_day`,
  COALESCE(LATEST_BY_OFFSET(`greatest_symbol`, FALSE), LATEST_BY_OFFSET(`_last_a4`)) AS `greatest_symbol`
FROM `ends_5m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;
