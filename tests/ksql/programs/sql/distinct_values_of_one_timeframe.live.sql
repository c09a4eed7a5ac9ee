@settings

@trades

@kandle_decides_which

-- Open Sums of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `sums_1m_live` WITH (KAFKA_TOPIC='sums_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  COUNT(*) AS `events`,
  CAST(ARRAY_LENGTH(FILTER(COLLECT_SET(`buyer`), x => x IS NOT NULL)) AS BIGINT) AS `buyers`,
  SUM(`size`) AS `volume`,
  SUM(CAST(`price` AS DECIMAL(38,6))) AS `turnover`,
  SUM(`ratio`) AS `weight`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  FILTER(COLLECT_SET(`buyer`), x => x IS NOT NULL) AS `_distinct_a0`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
