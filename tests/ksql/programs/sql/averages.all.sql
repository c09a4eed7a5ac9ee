@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `means_1m_final` WITH (KAFKA_TOPIC='means_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  CAST((SUM(CAST(`price` AS DECIMAL(38,6))) - SUM(CAST(`price` AS DECIMAL(38,6))) % CAST(COUNT(`price`) * 0.000000001 AS DECIMAL(41,9))) / COUNT(`price`) AS DECIMAL(18,8)) AS `mean`,
  CASE WHEN COUNT(`size`) <> 0 THEN CAST(SUM(`size`) AS DOUBLE) / COUNT(`size`) END AS `mean_size`,
  CAST((SUM(`price` * `size`) - SUM(`price` * `size`) % CAST(SUM(CASE WHEN (`price` IS NOT NULL) AND (`size` IS NOT NULL) THEN `size` END) * 0.000000001 AS DECIMAL(41,9))) / SUM(CASE WHEN (`price` IS NOT NULL) AND (`size` IS NOT NULL) THEN `size` END) AS DECIMAL(18,8)) AS `weighted`,
  SUM(CAST(`price` AS DECIMAL(38,6))) AS `_sum_a0`,
  COUNT(`price`) AS `_count_a0`,
  SUM(`size`) AS `_sum_a1`,
  COUNT(`size`) AS `_count_a1`,
  CAST(FLOOR(SUM(`price` * `size`) * 0.000000000001) AS DECIMAL(38,0)) AS `_sum_a3_high`,
  CAST((SUM(`price` * `size`) - FLOOR(SUM(`price` * `size`) * 0.000000000001) * 1000000000000) * 1000000 AS DECIMAL(38,0)) AS `_sum_a3_low`,
  SUM(CASE WHEN (`price` IS NOT NULL) AND (`size` IS NOT NULL) THEN `size` END) AS `_sum_a2`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a0`,
  TOPK(CASE WHEN `size` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `size`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of means_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `means_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `mean` DECIMAL(18,8),
  `mean_size` DOUBLE,
  `weighted` DECIMAL(18,8),
  `_sum_a0` DECIMAL(38,6),
  `_count_a0` BIGINT,
  `_sum_a1` BIGINT,
  `_count_a1` BIGINT,
  `_sum_a3_high` DECIMAL(38,0),
  `_sum_a3_low` DECIMAL(38,0),
  `_sum_a2` BIGINT,
  `_last_a0` DECIMAL(18,6),
  `_last_a1` BIGINT
) WITH (KAFKA_TOPIC='means_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `means_1m_filled` WITH (KAFKA_TOPIC='means_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(CAST((LATEST_BY_OFFSET(`_sum_a0`, FALSE) - LATEST_BY_OFFSET(`_sum_a0`, FALSE) % CAST(LATEST_BY_OFFSET(`_count_a0`, FALSE) * 0.000000001 AS DECIMAL(41,9))) / LATEST_BY_OFFSET(`_count_a0`, FALSE) AS DECIMAL(18,8)), CAST(LATEST_BY_OFFSET(`_last_a0`) AS DECIMAL(18,8))) AS `mean`,
  COALESCE(CASE WHEN (LATEST_BY_OFFSET(`_sum_a1`, FALSE) IS NOT NULL) AND (LATEST_BY_OFFSET(`_count_a1`, FALSE) IS NOT NULL) AND (LATEST_BY_OFFSET(`_count_a1`, FALSE) <> 0) THEN CAST(LATEST_BY_OFFSET(`_sum_a1`, FALSE) AS DOUBLE) / LATEST_BY_OFFSET(`_count_a1`, FALSE) END, CAST(LATEST_BY_OFFSET(`_last_a1`) AS DOUBLE)) AS `mean_size`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN CAST((CAST(LATEST_BY_OFFSET(`_sum_a3_high`, FALSE) * 1000000000000 + LATEST_BY_OFFSET(`_sum_a3_low`, FALSE) * 0.000001 AS DECIMAL(38,6)) - CAST(LATEST_BY_OFFSET(`_sum_a3_high`, FALSE) * 1000000000000 + LATEST_BY_OFFSET(`_sum_a3_low`, FALSE) * 0.000001 AS DECIMAL(38,6)) % CAST(LATEST_BY_OFFSET(`_sum_a2`, FALSE) * 0.000000001 AS DECIMAL(41,9))) / LATEST_BY_OFFSET(`_sum_a2`, FALSE) AS DECIMAL(18,8)) ELSE CAST(LATEST_BY_OFFSET(`_last_a0`) AS DECIMAL(18,8)) END AS `weighted`
FROM `means_1m_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `means_5m_final` WITH (KAFKA_TOPIC='means_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  CAST((SUM(`_sum_a0`) - SUM(`_sum_a0`) % CAST(SUM(`_count_a0`) * 0.000000001 AS DECIMAL(41,9))) / SUM(`_count_a0`) AS DECIMAL(18,8)) AS `mean`,
  CASE WHEN (SUM(`_sum_a1`) IS NOT NULL) AND (SUM(`_count_a1`) IS NOT NULL) AND (SUM(`_count_a1`) <> 0) THEN CAST(SUM(`_sum_a1`) AS DOUBLE) / SUM(`_count_a1`) END AS `mean_size`,
  CAST((CAST(SUM(`_sum_a3_high`) * 1000000000000 + SUM(`_sum_a3_low`) * 0.000001 AS DECIMAL(38,6)) - CAST(SUM(`_sum_a3_high`) * 1000000000000 + SUM(`_sum_a3_low`) * 0.000001 AS DECIMAL(38,6)) % CAST(SUM(`_sum_a2`) * 0.000000001 AS DECIMAL(41,9))) / SUM(`_sum_a2`) AS DECIMAL(18,8)) AS `weighted`,
  SUM(`_sum_a0`) AS `_sum_a0`,
  SUM(`_count_a0`) AS `_count_a0`,
  SUM(`_sum_a1`) AS `_sum_a1`,
  SUM(`_count_a1`) AS `_count_a1`,
  SUM(`_sum_a3_high`) AS `_sum_a3_high`,
  SUM(`_sum_a3_low`) AS `_sum_a3_low`,
  SUM(`_sum_a2`) AS `_sum_a2`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`,
  LATEST_BY_OFFSET(`_last_a1`) AS `_last_a1`
FROM `means_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of means_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `means_5m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `mean` DECIMAL(18,8),
  `mean_size` DOUBLE,
  `weighted` DECIMAL(18,8),
  `_sum_a0` DECIMAL(38,6),
  `_count_a0` BIGINT,
  `_sum_a1` BIGINT,
  `_count_a1` BIGINT,
  `_sum_a3_high` DECIMAL(38,0),
  `_sum_a3_low` DECIMAL(38,0),
  `_sum_a2` BIGINT,
  `_last_a0` DECIMAL(18,6),
  `_last_a1` BIGINT
) WITH (KAFKA_TOPIC='means_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `means_5m_filled` WITH (KAFKA_TOPIC='means_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  COALESCE(CAST((LATEST_BY_OFFSET(`_sum_a0`, FALSE) - LATEST_BY_OFFSET(`_sum_a0`, FALSE) % CAST(LATEST_BY_OFFSET(`_count_a0`, FALSE) * 0.000000001 AS DECIMAL(41,9))) / LATEST_BY_OFFSET(`_count_a0`, FALSE) AS DECIMAL(18,8)), CAST(LATEST_BY_OFFSET(`_last_a0`) AS DECIMAL(18,8))) AS `mean`,
  COALESCE(CASE WHEN (LATEST_BY_OFFSET(`_sum_a1`, FALSE) IS NOT NULL) AND (LATEST_BY_OFFSET(`_count_a1`, FALSE) IS NOT NULL) AND (LATEST_BY_OFFSET(`_count_a1`, FALSE) <> 0) THEN CAST(LATEST_BY_OFFSET(`_sum_a1`, FALSE) AS DOUBLE) / LATEST_BY_OFFSET(`_count_a1`, FALSE) END, CAST(LATEST_BY_OFFSET(`_last_a1`) AS DOUBLE)) AS `mean_size`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN CAST((CAST(LATEST_BY_OFFSET(`_sum_a3_high`, FALSE) * 1000000000000 + LATEST_BY_OFFSET(`_sum_a3_low`, FALSE) * 0.000001 AS DECIMAL(38,6)) - CAST(LATEST_BY_OFFSET(`_sum_a3_high`, FALSE) * 1000000000000 + LATEST_BY_OFFSET(`_sum_a3_low`, FALSE) * 0.000001 AS DECIMAL(38,6)) % CAST(LATEST_BY_OFFSET(`_sum_a2`, FALSE) * 0.000000001 AS DECIMAL(41,9))) / LATEST_BY_OFFSET(`_sum_a2`, FALSE) AS DECIMAL(18,8)) ELSE CAST(LATEST_BY_OFFSET(`_last_a0`) AS DECIMAL(18,8)) END AS `weighted`
FROM `means_5m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
