@settings_2

@trades

-- Heartbeats close the bars: rows of topic trades with values for symbol, time and NULL in all other columns, so the
-- schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or
-- later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- A bar of a larger timeframe closes when the next bar of its source that has events closes (gaps=skip).

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `lots_1m_final` WITH (KAFKA_TOPIC='lots_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
HAVING COUNT(`price`) > 0
EMIT FINAL;

-- Rows of lots_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `lots_5m_final` WITH (KAFKA_TOPIC='lots_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`lots`) AS `lots`,
  MAX(`high`) AS `high`
FROM `lots_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;
