@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `sums_1m_final` WITH (KAFKA_TOPIC='sums_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(CASE WHEN `price` IS NOT NULL THEN CASE WHEN `active` = TRUE THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END END) AS `events`,
  COUNT(CASE WHEN `price` IS NOT NULL THEN CASE WHEN NOT (LCASE(COALESCE(`buyer`, '')) = '') THEN LCASE(COALESCE(`buyer`, '')) END END) AS `buyers`,
  SUM(CASE WHEN `price` IS NOT NULL THEN COALESCE(CASE WHEN (`size` IS NOT NULL) AND (NOT (`size` = 0)) THEN `size` END, CAST(7 AS BIGINT)) END) AS `volume`,
  CAST(SUM(CAST(CAST(`price` * 3 AS DECIMAL(16,2)) AS DECIMAL(38,2))) AS DECIMAL(38,6)) AS `turnover`,
  SUM(ABS(`ratio`)) AS `weight`,
  SUM(CAST(CAST(`price` * 3 AS DECIMAL(16,2)) AS DECIMAL(38,2))) AS `_sum_a3`,
  COUNT(`price`) AS `_count`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of sums_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `sums_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `events` BIGINT,
  `buyers` BIGINT,
  `volume` BIGINT,
  `turnover` DECIMAL(38,6),
  `weight` DOUBLE,
  `_sum_a3` DECIMAL(38,2),
  `_count` BIGINT
) WITH (KAFKA_TOPIC='sums_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `sums_1m_filled` WITH (KAFKA_TOPIC='sums_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`events`, FALSE) AS `events`,
  LATEST_BY_OFFSET(`buyers`, FALSE) AS `buyers`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`,
  CAST(LATEST_BY_OFFSET(`_sum_a3`, FALSE) AS DECIMAL(38,6)) AS `turnover`,
  LATEST_BY_OFFSET(`weight`, FALSE) AS `weight`
FROM `sums_1m_final_declared`
GROUP BY `symbol_value`
HAVING SUM(`_count`) > 0
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `sums_5m_final` WITH (KAFKA_TOPIC='sums_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`events`) AS `events`,
  SUM(`buyers`) AS `buyers`,
  SUM(`volume`) AS `volume`,
  CAST(SUM(`_sum_a3`) AS DECIMAL(38,6)) AS `turnover`,
  SUM(`weight`) AS `weight`,
  SUM(`_sum_a3`) AS `_sum_a3`,
  SUM(`_count`) AS `_count`
FROM `sums_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of sums_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `sums_5m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `events` BIGINT,
  `buyers` BIGINT,
  `volume` BIGINT,
  `turnover` DECIMAL(38,6),
  `weight` DOUBLE,
  `_sum_a3` DECIMAL(38,2),
  `_count` BIGINT
) WITH (KAFKA_TOPIC='sums_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `sums_5m_filled` WITH (KAFKA_TOPIC='sums_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`events`, FALSE) AS `events`,
  LATEST_BY_OFFSET(`buyers`, FALSE) AS `buyers`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`,
  CAST(LATEST_BY_OFFSET(`_sum_a3`, FALSE) AS DECIMAL(38,6)) AS `turnover`,
  LATEST_BY_OFFSET(`weight`, FALSE) AS `weight`
FROM `sums_5m_final_declared`
GROUP BY `symbol_copy`
HAVING SUM(`_count`) > 0
EMIT CHANGES;
