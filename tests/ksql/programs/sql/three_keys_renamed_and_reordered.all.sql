@settings_2

-- Order: topic orders.
CREATE STREAM IF NOT EXISTS `orders` (
  `venue` VARCHAR KEY,
  `desk` BIGINT KEY,
  `code` VARCHAR KEY,
  `amount` DECIMAL(12,2),
  `placed` TIMESTAMP
) WITH (KAFKA_TOPIC='orders', PARTITIONS=3, REPLICAS=2, RETENTION_MS=2592000000, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`placed`');

-- Heartbeats close the bars: rows of topic orders with values for venue, desk, code, placed and NULL in all other columns,
-- so the schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0
-- SECONDS or later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `order_bars_1m_final` WITH (KAFKA_TOPIC='order_bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', PARTITIONS=6, REPLICAS=2, RETENTION_MS=31536000000) AS
SELECT
  `venue` AS `where`,
  `desk` AS `who`,
  `code` AS `what`,
  AS_VALUE(`venue`) AS `where_value`,
  AS_VALUE(`desk`) AS `who_value`,
  AS_VALUE(`code`) AS `what_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket`,
  SUM(CAST(`amount` AS DECIMAL(38,2))) AS `total`,
  COUNT(`amount`) AS `_count_a0`
FROM `orders`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `venue`, `desk`, `code`
EMIT FINAL;

-- Rows of order_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `order_bars_1m_final_declared` (
  `where_value` VARCHAR,
  `who_value` BIGINT,
  `what_value` VARCHAR,
  `bucket` TIMESTAMP,
  `total` DECIMAL(38,2),
  `_count_a0` BIGINT
) WITH (KAFKA_TOPIC='order_bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `order_bars_1m_filled` WITH (KAFKA_TOPIC='order_bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', PARTITIONS=6, REPLICAS=2) AS
SELECT
  `where_value` AS `where`,
  `who_value` AS `who`,
  `what_value` AS `what`,
  LATEST_BY_OFFSET(`bucket`, FALSE) AS `bucket`,
  LATEST_BY_OFFSET(`total`, FALSE) AS `total`
FROM `order_bars_1m_final_declared`
GROUP BY `where_value`, `who_value`, `what_value`
HAVING SUM(`_count_a0`) > 0
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `order_bars_5m_final` WITH (KAFKA_TOPIC='order_bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', PARTITIONS=6, REPLICAS=2, RETENTION_MS=31536000000) AS
SELECT
  `where_value` AS `where`,
  `who_value` AS `who`,
  `what_value` AS `what`,
  AS_VALUE(`where_value`) AS `where_copy`,
  AS_VALUE(`who_value`) AS `who_copy`,
  AS_VALUE(`what_value`) AS `what_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `bucket`,
  SUM(`total`) AS `total`,
  SUM(`_count_a0`) AS `_count_a0`
FROM `order_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `where_value`, `who_value`, `what_value`
EMIT FINAL;

-- Rows of order_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `order_bars_5m_final_declared` (
  `where_copy` VARCHAR,
  `who_copy` BIGINT,
  `what_copy` VARCHAR,
  `bucket` TIMESTAMP,
  `total` DECIMAL(38,2),
  `_count_a0` BIGINT
) WITH (KAFKA_TOPIC='order_bars_5m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`bucket`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `order_bars_5m_filled` WITH (KAFKA_TOPIC='order_bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', PARTITIONS=6, REPLICAS=2) AS
SELECT
  `where_copy` AS `where`,
  `who_copy` AS `who`,
  `what_copy` AS `what`,
  LATEST_BY_OFFSET(`bucket`, FALSE) AS `bucket`,
  LATEST_BY_OFFSET(`total`, FALSE) AS `total`
FROM `order_bars_5m_final_declared`
GROUP BY `where_copy`, `who_copy`, `what_copy`
HAVING SUM(`_count_a0`) > 0
EMIT CHANGES;
