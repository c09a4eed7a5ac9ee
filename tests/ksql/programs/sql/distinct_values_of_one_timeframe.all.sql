@settings_2

@trades

-- Heartbeats close the bars: rows of topic trades that have symbol, time, and NULL in all other columns, so the schema of
-- its values must allow NULL. There is one for each key and bucket of 1m, at the end of the bucket + 0 SECONDS or later. A
-- bucket is a bar only if an event or a heartbeat fell into it.
-- Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its source
-- later still. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, but after a restart they are
-- taken until a newer row comes. Partitions that are read unevenly after an absence make events late.

-- Finals of 1m.
CREATE TABLE IF NOT EXISTS `sums_1m_final` WITH (KAFKA_TOPIC='sums_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  COUNT(`price`) AS `events`,
  CAST(ARRAY_LENGTH(FILTER(COLLECT_SET(`buyer`), x => x IS NOT NULL)) AS BIGINT) AS `buyers`,
  SUM(`size`) AS `volume`,
  SUM(CAST(`price` AS DECIMAL(38,6))) AS `turnover`,
  SUM(`ratio`) AS `weight`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
HAVING COUNT(`price`) > 0
EMIT FINAL;
