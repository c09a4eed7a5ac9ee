@settings

@trades

@kandle_decides_which_2

-- Open Sums of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `sums_1m_live` WITH (KAFKA_TOPIC='sums_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  COUNT(*) AS `events`,
  COUNT(`buyer`) AS `buyers`,
  SUM(`size`) AS `volume`,
  SUM(`price` * `size`) AS `turnover`,
  SUM(`ratio`) AS `weight`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  CAST(FLOOR(SUM(`price` * `size`) * 0.000000000001) AS DECIMAL(38,0)) AS `_sum_a2_high`,
  CAST((SUM(`price` * `size`) - FLOOR(SUM(`price` * `size`) * 0.000000000001) * 1000000000000) * 1000000 AS DECIMAL(38,0)) AS `_sum_a2_low`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
