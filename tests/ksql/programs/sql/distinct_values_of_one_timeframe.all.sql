@settings_2

@trades

-- Heartbeats close the bars: rows of topic trades with values for symbol, time and NULL in all other columns, so the
-- schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or
-- later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.

-- Final bars of 1m.
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
