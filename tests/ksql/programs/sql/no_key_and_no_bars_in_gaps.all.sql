@settings_2

@readings

-- Heartbeats close the bars: rows of topic readings that have at, and NULL in all other columns, so the schema of its
-- values must allow NULL. There is one for each key and bucket of 1m, at the end of the bucket + 0 SECONDS or later. A
-- bucket is a bar only if an event or a heartbeat fell into it.
-- Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its source
-- later still. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, but after a restart they are
-- taken until a newer row comes. Partitions that are read unevenly after an absence make events late.

-- The parts of the group key as columns, at the time of the query.
CREATE STREAM IF NOT EXISTS `peaks_prepared` WITH (KAFKA_TOPIC='peaks_prepared', VALUE_FORMAT='AVRO') AS
SELECT
  `at`,
  `value`,
  `sensor`,
  CAST(0 AS BIGINT) AS `_k0`
FROM `readings`
EMIT CHANGES;

-- Finals of 1m.
CREATE TABLE IF NOT EXISTS `peaks_1m_final` WITH (KAFKA_TOPIC='peaks_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `_k0`,
  AS_VALUE(`_k0`) AS `_k0_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `peak`,
  COUNT(`value`) AS `readings`
FROM `peaks_prepared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `_k0`
HAVING COUNT(`sensor`) > 0
EMIT FINAL;
