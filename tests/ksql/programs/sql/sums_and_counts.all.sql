@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `sums_1m_final` WITH (KAFKA_TOPIC='sums_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  COUNT(`price`) AS `events`,
  COUNT(`buyer`) AS `buyers`,
  SUM(`size`) AS `volume`,
  SUM(`price` * `size`) AS `turnover`,
  SUM(`ratio`) AS `weight`,
  CAST(FLOOR(SUM(`price` * `size`) * 0.000000000001) AS DECIMAL(38,0)) AS `_sum_a3_high`,
  CAST((SUM(`price` * `size`) - FLOOR(SUM(`price` * `size`) * 0.000000000001) * 1000000000000) * 1000000 AS DECIMAL(38,0)) AS `_sum_a3_low`
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
  `_sum_a3_high` DECIMAL(38,0),
  `_sum_a3_low` DECIMAL(38,0)
) WITH (KAFKA_TOPIC='sums_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `sums_1m_filled` WITH (KAFKA_TOPIC='sums_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`events`, FALSE) AS `events`,
  LATEST_BY_OFFSET(`buyers`, FALSE) AS `buyers`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`,
  CAST(LATEST_BY_OFFSET(`_sum_a3_high`, FALSE) * 1000000000000 + LATEST_BY_OFFSET(`_sum_a3_low`, FALSE) * 0.000001 AS DECIMAL(38,6)) AS `turnover`,
  LATEST_BY_OFFSET(`weight`, FALSE) AS `weight`
FROM `sums_1m_final_declared`
GROUP BY `symbol_value`
HAVING SUM(`events`) > 0
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
  CAST(SUM(`_sum_a3_high`) * 1000000000000 + SUM(`_sum_a3_low`) * 0.000001 AS DECIMAL(38,6)) AS `turnover`,
  SUM(`weight`) AS `weight`,
  SUM(`_sum_a3_high`) AS `_sum_a3_high`,
  SUM(`_sum_a3_low`) AS `_sum_a3_low`
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
  `_sum_a3_high` DECIMAL(38,0),
  `_sum_a3_low` DECIMAL(38,0)
) WITH (KAFKA_TOPIC='sums_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `sums_5m_filled` WITH (KAFKA_TOPIC='sums_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`events`, FALSE) AS `events`,
  LATEST_BY_OFFSET(`buyers`, FALSE) AS `buyers`,
  LATEST_BY_OFFSET(`volume`, FALSE) AS `volume`,
  CAST(LATEST_BY_OFFSET(`_sum_a3_high`, FALSE) * 1000000000000 + LATEST_BY_OFFSET(`_sum_a3_low`, FALSE) * 0.000001 AS DECIMAL(38,6)) AS `turnover`,
  LATEST_BY_OFFSET(`weight`, FALSE) AS `weight`
FROM `sums_5m_final_declared`
GROUP BY `symbol_copy`
HAVING SUM(`events`) > 0
EMIT CHANGES;
