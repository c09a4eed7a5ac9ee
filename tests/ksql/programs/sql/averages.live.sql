@settings

@trades

@kandle_decides_which_2

-- Open Means of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `means_1m_live` WITH (KAFKA_TOPIC='means_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  CAST((SUM(CAST(`price` AS DECIMAL(38,6))) - SUM(CAST(`price` AS DECIMAL(38,6))) % CAST(COUNT(*) * 0.000000001 AS DECIMAL(41,9))) / COUNT(*) AS DECIMAL(18,8)) AS `mean`,
  CAST(SUM(`size`) AS DOUBLE) / COUNT(*) AS `mean_size`,
  CAST((SUM(`price` * `size`) - SUM(`price` * `size`) % CAST(SUM(`size`) * 0.000000001 AS DECIMAL(41,9))) / SUM(`size`) AS DECIMAL(18,8)) AS `weighted`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  SUM(CAST(`price` AS DECIMAL(38,6))) AS `_sum_a0`,
  COUNT(*) AS `_count`,
  SUM(`size`) AS `_sum_a1`,
  CAST(FLOOR(SUM(`price` * `size`) * 0.000000000001) AS DECIMAL(38,0)) AS `_sum_a2_high`,
  CAST((SUM(`price` * `size`) - FLOOR(SUM(`price` * `size`) * 0.000000000001) * 1000000000000) * 1000000 AS DECIMAL(38,0)) AS `_sum_a2_low`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a0`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `size`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
