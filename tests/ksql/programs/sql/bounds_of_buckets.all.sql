@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `spans_1m_final` WITH (KAFKA_TOPIC='spans_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  FROM_UNIXTIME(WINDOWEND) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWEND)) - UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWSTART)) AS `length`,
  CAST(MAX(`price`) - MIN(`price`) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol`) AS `same_symbol`,
  MAX(`price`) AS `_max_a0`,
  MIN(`price`) AS `_min_a0`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a0`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of spans_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `spans_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `end` TIMESTAMP,
  `length` BIGINT,
  `span` DECIMAL(18,6),
  `same_symbol` VARCHAR,
  `_max_a0` DECIMAL(18,6),
  `_min_a0` DECIMAL(18,6),
  `_last_a0` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='spans_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `spans_1m_filled` WITH (KAFKA_TOPIC='spans_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 60000) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 60000)) - UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) AS `length`,
  CAST(COALESCE(LATEST_BY_OFFSET(`_max_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) - COALESCE(LATEST_BY_OFFSET(`_min_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol_value`) AS `same_symbol`
FROM `spans_1m_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 3m.
CREATE TABLE IF NOT EXISTS `spans_3m_final` WITH (KAFKA_TOPIC='spans_3m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  FROM_UNIXTIME(WINDOWEND) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWEND)) - UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWSTART)) AS `length`,
  CAST(MAX(`_max_a0`) - MIN(`_min_a0`) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol_value`) AS `same_symbol`,
  MAX(`_max_a0`) AS `_max_a0`,
  MIN(`_min_a0`) AS `_min_a0`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`
FROM `spans_1m_final_declared`
WINDOW TUMBLING (SIZE 3 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of spans_3m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `spans_3m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `end` TIMESTAMP,
  `length` BIGINT,
  `span` DECIMAL(18,6),
  `same_symbol` VARCHAR,
  `_max_a0` DECIMAL(18,6),
  `_min_a0` DECIMAL(18,6),
  `_last_a0` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='spans_3m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 3m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `spans_3m_filled` WITH (KAFKA_TOPIC='spans_3m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 180000) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 180000)) - UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) AS `length`,
  CAST(COALESCE(LATEST_BY_OFFSET(`_max_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) - COALESCE(LATEST_BY_OFFSET(`_min_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol_copy`) AS `same_symbol`
FROM `spans_3m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
