@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `deviations_1m_final` WITH (KAFKA_TOPIC='deviations_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  CASE WHEN COUNT(`price`) > 1 THEN SQRT(CAST(COUNT(`price`) * SUM(CAST(`price` * `price` AS DECIMAL(56,12))) - SUM(CAST(`price` AS DECIMAL(38,6))) * SUM(CAST(`price` AS DECIMAL(38,6))) AS DOUBLE) / (COUNT(`price`) * (COUNT(`price`) - 1))) END AS `sample`,
  CASE WHEN COUNT(`size`) > 0 THEN SQRT(CAST(COUNT(`size`) * SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) - CAST(SUM(`size`) AS DECIMAL(19,0)) * CAST(SUM(`size`) AS DECIMAL(19,0)) AS DOUBLE) / (COUNT(`size`) * COUNT(`size`))) END AS `population`,
  CASE WHEN COUNT(`ratio`) > 1 THEN STDDEV_SAMPLE(`ratio`) END AS `of_ratio`,
  SUM(CAST(`price` AS DECIMAL(38,6))) AS `_sum_a0`,
  COUNT(`price`) AS `_count_a0`,
  CAST(FLOOR(SUM(CAST(`price` * `price` AS DECIMAL(56,12))) * 0.000001) AS DECIMAL(38,0)) AS `_squares_high_a0`,
  CAST((SUM(CAST(`price` * `price` AS DECIMAL(56,12))) - FLOOR(SUM(CAST(`price` * `price` AS DECIMAL(56,12))) * 0.000001) * 1000000) * 1000000000000 AS DECIMAL(38,0)) AS `_squares_low_a0`,
  SUM(`size`) AS `_sum_a1`,
  COUNT(`size`) AS `_count_a1`,
  CAST(FLOOR(SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) * CAST('0.000000000000000001' AS DECIMAL(19,18))) AS DECIMAL(38,0)) AS `_squares_high_a1`,
  CAST((SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) - FLOOR(SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) * CAST('0.000000000000000001' AS DECIMAL(19,18))) * CAST('1000000000000000000' AS BIGINT)) * 1 AS DECIMAL(38,0)) AS `_squares_low_a1`,
  COUNT(`ratio`) AS `_count_a2`,
  CASE WHEN COUNT(`ratio`) <> 0 THEN SUM(`ratio`) / COUNT(`ratio`) END AS `_mean_a2`,
  CASE WHEN COUNT(`ratio`) > 1 THEN STDDEV_SAMPLE(`ratio`) * STDDEV_SAMPLE(`ratio`) * (COUNT(`ratio`) - 1) ELSE 0E0 END AS `_spread_a2`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of deviations_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `deviations_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `sample` DOUBLE,
  `population` DOUBLE,
  `of_ratio` DOUBLE,
  `_sum_a0` DECIMAL(38,6),
  `_count_a0` BIGINT,
  `_squares_high_a0` DECIMAL(38,0),
  `_squares_low_a0` DECIMAL(38,0),
  `_sum_a1` BIGINT,
  `_count_a1` BIGINT,
  `_squares_high_a1` DECIMAL(38,0),
  `_squares_low_a1` DECIMAL(38,0),
  `_count_a2` BIGINT,
  `_mean_a2` DOUBLE,
  `_spread_a2` DOUBLE
) WITH (KAFKA_TOPIC='deviations_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `deviations_1m_filled` WITH (KAFKA_TOPIC='deviations_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 1 THEN SQRT(CAST(LATEST_BY_OFFSET(`_count_a0`, FALSE) * CAST(LATEST_BY_OFFSET(`_squares_high_a0`, FALSE) * 1000000 + LATEST_BY_OFFSET(`_squares_low_a0`, FALSE) * 0.000000000001 AS DECIMAL(56,12)) - LATEST_BY_OFFSET(`_sum_a0`, FALSE) * LATEST_BY_OFFSET(`_sum_a0`, FALSE) AS DOUBLE) / (LATEST_BY_OFFSET(`_count_a0`, FALSE) * (LATEST_BY_OFFSET(`_count_a0`, FALSE) - 1))) END AS `sample`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN CASE WHEN LATEST_BY_OFFSET(`_count_a1`, FALSE) > 0 THEN SQRT(CAST(LATEST_BY_OFFSET(`_count_a1`, FALSE) * CAST(LATEST_BY_OFFSET(`_squares_high_a1`, FALSE) * CAST('1000000000000000000' AS BIGINT) + LATEST_BY_OFFSET(`_squares_low_a1`, FALSE) * 1 AS DECIMAL(58,0)) - CAST(LATEST_BY_OFFSET(`_sum_a1`, FALSE) AS DECIMAL(19,0)) * CAST(LATEST_BY_OFFSET(`_sum_a1`, FALSE) AS DECIMAL(19,0)) AS DOUBLE) / (LATEST_BY_OFFSET(`_count_a1`, FALSE) * LATEST_BY_OFFSET(`_count_a1`, FALSE))) END ELSE 0E0 END AS `population`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a2`, FALSE) > 1 THEN SQRT(LATEST_BY_OFFSET(`_spread_a2`, FALSE) / (LATEST_BY_OFFSET(`_count_a2`, FALSE) - 1)) END AS `of_ratio`
FROM `deviations_1m_final_declared`
GROUP BY `symbol_value`
HAVING SUM(`_count_a0`) > 0
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `deviations_5m_final` WITH (KAFKA_TOPIC='deviations_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  CASE WHEN SUM(`_count_a0`) > 1 THEN SQRT(CAST(SUM(`_count_a0`) * CAST(SUM(`_squares_high_a0`) * 1000000 + SUM(`_squares_low_a0`) * 0.000000000001 AS DECIMAL(56,12)) - SUM(`_sum_a0`) * SUM(`_sum_a0`) AS DOUBLE) / (SUM(`_count_a0`) * (SUM(`_count_a0`) - 1))) END AS `sample`,
  CASE WHEN SUM(`_count_a1`) > 0 THEN SQRT(CAST(SUM(`_count_a1`) * CAST(SUM(`_squares_high_a1`) * CAST('1000000000000000000' AS BIGINT) + SUM(`_squares_low_a1`) * 1 AS DECIMAL(58,0)) - CAST(SUM(`_sum_a1`) AS DECIMAL(19,0)) * CAST(SUM(`_sum_a1`) AS DECIMAL(19,0)) AS DOUBLE) / (SUM(`_count_a1`) * SUM(`_count_a1`))) END AS `population`,
  CASE WHEN SUM(`_count_a2`) > 1 THEN SQRT(CASE WHEN SUM(`_count_a2`) > 0 THEN SUM(`_spread_a2`) + (SUM(`_mean_a2` * `_count_a2` * `_mean_a2`) - SUM(`_mean_a2` * `_count_a2`) * SUM(`_mean_a2` * `_count_a2`) / SUM(`_count_a2`)) END / (SUM(`_count_a2`) - 1)) END AS `of_ratio`,
  SUM(`_sum_a0`) AS `_sum_a0`,
  SUM(`_count_a0`) AS `_count_a0`,
  SUM(`_squares_high_a0`) AS `_squares_high_a0`,
  SUM(`_squares_low_a0`) AS `_squares_low_a0`,
  SUM(`_sum_a1`) AS `_sum_a1`,
  SUM(`_count_a1`) AS `_count_a1`,
  SUM(`_squares_high_a1`) AS `_squares_high_a1`,
  SUM(`_squares_low_a1`) AS `_squares_low_a1`,
  SUM(`_count_a2`) AS `_count_a2`,
  CASE WHEN SUM(`_count_a2`) <> 0 THEN SUM(`_mean_a2` * `_count_a2`) / SUM(`_count_a2`) END AS `_mean_a2`,
  CASE WHEN SUM(`_count_a2`) > 0 THEN SUM(`_spread_a2`) + (SUM(`_mean_a2` * `_count_a2` * `_mean_a2`) - SUM(`_mean_a2` * `_count_a2`) * SUM(`_mean_a2` * `_count_a2`) / SUM(`_count_a2`)) END AS `_spread_a2`
FROM `deviations_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of deviations_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `deviations_5m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `sample` DOUBLE,
  `population` DOUBLE,
  `of_ratio` DOUBLE,
  `_sum_a0` DECIMAL(38,6),
  `_count_a0` BIGINT,
  `_squares_high_a0` DECIMAL(38,0),
  `_squares_low_a0` DECIMAL(38,0),
  `_sum_a1` BIGINT,
  `_count_a1` BIGINT,
  `_squares_high_a1` DECIMAL(38,0),
  `_squares_low_a1` DECIMAL(38,0),
  `_count_a2` BIGINT,
  `_mean_a2` DOUBLE,
  `_spread_a2` DOUBLE
) WITH (KAFKA_TOPIC='deviations_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `deviations_5m_filled` WITH (KAFKA_TOPIC='deviations_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 1 THEN SQRT(CAST(LATEST_BY_OFFSET(`_count_a0`, FALSE) * CAST(LATEST_BY_OFFSET(`_squares_high_a0`, FALSE) * 1000000 + LATEST_BY_OFFSET(`_squares_low_a0`, FALSE) * 0.000000000001 AS DECIMAL(56,12)) - LATEST_BY_OFFSET(`_sum_a0`, FALSE) * LATEST_BY_OFFSET(`_sum_a0`, FALSE) AS DOUBLE) / (LATEST_BY_OFFSET(`_count_a0`, FALSE) * (LATEST_BY_OFFSET(`_count_a0`, FALSE) - 1))) END AS `sample`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN CASE WHEN LATEST_BY_OFFSET(`_count_a1`, FALSE) > 0 THEN SQRT(CAST(LATEST_BY_OFFSET(`_count_a1`, FALSE) * CAST(LATEST_BY_OFFSET(`_squares_high_a1`, FALSE) * CAST('1000000000000000000' AS BIGINT) + LATEST_BY_OFFSET(`_squares_low_a1`, FALSE) * 1 AS DECIMAL(58,0)) - CAST(LATEST_BY_OFFSET(`_sum_a1`, FALSE) AS DECIMAL(19,0)) * CAST(LATEST_BY_OFFSET(`_sum_a1`, FALSE) AS DECIMAL(19,0)) AS DOUBLE) / (LATEST_BY_OFFSET(`_count_a1`, FALSE) * LATEST_BY_OFFSET(`_count_a1`, FALSE))) END ELSE 0E0 END AS `population`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a2`, FALSE) > 1 THEN SQRT(LATEST_BY_OFFSET(`_spread_a2`, FALSE) / (LATEST_BY_OFFSET(`_count_a2`, FALSE) - 1)) END AS `of_ratio`
FROM `deviations_5m_final_declared`
GROUP BY `symbol_copy`
HAVING SUM(`_count_a0`) > 0
EMIT CHANGES;
