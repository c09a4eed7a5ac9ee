@settings

@trades

@kandle_decides_which_2

-- Open Deviations of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `deviations_1m_live` WITH (KAFKA_TOPIC='deviations_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  CASE WHEN COUNT(*) > 1 THEN SQRT(CAST(COUNT(*) * SUM(CAST(`price` * `price` AS DECIMAL(56,12))) - SUM(CAST(`price` AS DECIMAL(38,6))) * SUM(CAST(`price` AS DECIMAL(38,6))) AS DOUBLE) / (COUNT(*) * (COUNT(*) - 1))) END AS `sample`,
  SQRT(CAST(COUNT(*) * SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) - CAST(SUM(`size`) AS DECIMAL(19,0)) * CAST(SUM(`size`) AS DECIMAL(19,0)) AS DOUBLE) / (COUNT(*) * COUNT(*))) AS `population`,
  CASE WHEN COUNT(*) > 1 THEN STDDEV_SAMPLE(`ratio`) END AS `of_ratio`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  SUM(CAST(`price` AS DECIMAL(38,6))) AS `_sum_a0`,
  COUNT(*) AS `_count`,
  CAST(FLOOR(SUM(CAST(`price` * `price` AS DECIMAL(56,12))) * 0.000001) AS DECIMAL(38,0)) AS `_squares_high_a0`,
  CAST((SUM(CAST(`price` * `price` AS DECIMAL(56,12))) - FLOOR(SUM(CAST(`price` * `price` AS DECIMAL(56,12))) * 0.000001) * 1000000) * 1000000000000 AS DECIMAL(38,0)) AS `_squares_low_a0`,
  SUM(`size`) AS `_sum_a1`,
  CAST(FLOOR(SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) * CAST('0.000000000000000001' AS DECIMAL(19,18))) AS DECIMAL(38,0)) AS `_squares_high_a1`,
  CAST((SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) - FLOOR(SUM(CAST(CAST(`size` AS DECIMAL(19,0)) * CAST(`size` AS DECIMAL(19,0)) AS DECIMAL(58,0))) * CAST('0.000000000000000001' AS DECIMAL(19,18))) * CAST('1000000000000000000' AS BIGINT)) * 1 AS DECIMAL(38,0)) AS `_squares_low_a1`,
  CASE WHEN COUNT(*) <> 0 THEN SUM(`ratio`) / COUNT(*) END AS `_mean_a2`,
  CASE WHEN COUNT(*) > 1 THEN STDDEV_SAMPLE(`ratio`) * STDDEV_SAMPLE(`ratio`) * (COUNT(*) - 1) ELSE 0E0 END AS `_spread_a2`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a0`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `size`, 1)[1]->`col0` AS `_last_a1`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `ratio`, 1)[1]->`col0` AS `_last_a2`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
