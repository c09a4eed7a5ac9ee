@settings_2

@trades

-- Heartbeats close the bars: rows of topic trades that have symbol, time, seen, and NULL in all other columns, so the
-- schema of its values must allow NULL. There is one for each key and bucket of 1m, at the end of the bucket + 0 SECONDS
-- or later. A bucket is a bar only if an event or a heartbeat fell into it.
-- Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its source
-- later still. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, but after a restart they are
-- taken until a newer row comes. Partitions that are read unevenly after an absence make events late.
-- In _final a bar without events has NULL, its sums and counts 0. In _filled the last values are carried on.

-- The parts of the group key as columns, at the time of the query.
CREATE STREAM IF NOT EXISTS `lots_prepared` WITH (KAFKA_TOPIC='lots_prepared', VALUE_FORMAT='AVRO', TIMESTAMP='`_time`') AS
SELECT
  `symbol`,
  `seen`,
  `time`,
  `size`,
  `price`,
  COALESCE(`seen`, `time`) AS `_time`
FROM `trades`
EMIT CHANGES;

-- Finals of 1m.
CREATE TABLE IF NOT EXISTS `lots_1m_final` WITH (KAFKA_TOPIC='lots_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`_time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a1`
FROM `lots_prepared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

@lots_1m_final_declared

@lots_1m_filled
