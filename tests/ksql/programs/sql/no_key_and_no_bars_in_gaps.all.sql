@settings_2

@readings

-- Heartbeats close the bars: rows of topic readings with values for at and NULL in all other columns, so the schema of its
-- values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or later. A
-- bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.

-- Events with the parts of the group key as columns, and the time of the query as their time.
CREATE STREAM IF NOT EXISTS `peaks_prepared` WITH (KAFKA_TOPIC='peaks_prepared', VALUE_FORMAT='AVRO') AS
SELECT
  `at`,
  `value`,
  `sensor`,
  CAST(0 AS BIGINT) AS `_k0`
FROM `readings`
EMIT CHANGES;

-- Final bars of 1m.
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
