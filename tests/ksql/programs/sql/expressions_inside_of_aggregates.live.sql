@settings

@trades

@kandle_decides_which_2

-- Open Sums of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `sums_1m_live` WITH (KAFKA_TOPIC='sums_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(CASE WHEN `active` THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END) AS `events`,
  COUNT(CASE WHEN NOT (LCASE(COALESCE(`buyer`, '')) = '') THEN LCASE(COALESCE(`buyer`, '')) END) AS `buyers`,
  SUM(COALESCE(CASE WHEN NOT (`size` = 0) THEN `size` END, CAST(7 AS BIGINT))) AS `volume`,
  CAST(SUM(CAST(CAST(`price` * 3 AS DECIMAL(16,2)) AS DECIMAL(38,2))) AS DECIMAL(38,6)) AS `turnover`,
  SUM(ABS(`ratio`)) AS `weight`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  SUM(CAST(CAST(`price` * 3 AS DECIMAL(16,2)) AS DECIMAL(38,2))) AS `_sum_a3`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
