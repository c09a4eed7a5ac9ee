@settings_2

@trades

-- Heartbeats close the bars: rows of topic trades with values for symbol, time and NULL in all other columns, so the
-- schema of its values must allow NULL. Each key needs one for each bucket of 10d, at the end of the bucket + 0 SECONDS or
-- later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 10d.
CREATE TABLE IF NOT EXISTS `lots_10d_final` WITH (KAFKA_TOPIC='lots_10d_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 10 DAYS, RETENTION 20 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of lots_10d_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `lots_10d_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `lots` BIGINT,
  `high` DECIMAL(18,6),
  `_last_a1` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='lots_10d_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 10d. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_10d_filled` WITH (KAFKA_TOPIC='lots_10d_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_10d_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;
