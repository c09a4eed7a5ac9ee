@settings_2

-- Stamped: topic stamped, whose times ksqlDB reads in the time zone of its server, which must be UTC.
CREATE STREAM IF NOT EXISTS `stamped` (
  `code` VARCHAR KEY,
  `time` VARCHAR,
  `sent` VARCHAR,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='stamped', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='JSON', TIMESTAMP='`time`', TIMESTAMP_FORMAT='yyyy-MM-dd''T''HH:mm:ss.SSS''Z''');

-- Heartbeats close the bars: rows of topic stamped with values for code, time and NULL in all other columns, so the schema
-- of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or later.
-- A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `stamped_bars_1m_final` WITH (KAFKA_TOPIC='stamped_bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='JSON') AS
SELECT
  `code`,
  AS_VALUE(`code`) AS `code_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN CASE WHEN `sent` IS NOT NULL THEN PARSE_TIMESTAMP(`sent`, 'yyyy/MM/dd HH:mm:ss') END IS NOT NULL THEN FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, CASE WHEN `sent` IS NOT NULL THEN PARSE_TIMESTAMP(`sent`, 'yyyy/MM/dd HH:mm:ss') END, 1)[1]->`col0` AS `last_sent`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `price`,
  COUNT(`price`) AS `_count_a1`
FROM `stamped`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `code`
EMIT FINAL;

-- Rows of stamped_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `stamped_bars_1m_final_declared` (
  `code_value` VARCHAR,
  `start` TIMESTAMP,
  `last_sent` TIMESTAMP,
  `price` DECIMAL(9,2),
  `_count_a1` BIGINT
) WITH (KAFKA_TOPIC='stamped_bars_1m_final', VALUE_FORMAT='JSON', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `stamped_bars_1m_filled` WITH (KAFKA_TOPIC='stamped_bars_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='JSON') AS
SELECT
  `code_value` AS `code`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a1`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_sent`, FALSE) ELSE LATEST_BY_OFFSET(`last_sent`) END AS `last_sent`,
  LATEST_BY_OFFSET(`price`) AS `price`
FROM `stamped_bars_1m_final_declared`
GROUP BY `code_value`
HAVING LATEST_BY_OFFSET(`price`) IS NOT NULL
EMIT CHANGES;

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `stamped_bars_5m_final` WITH (KAFKA_TOPIC='stamped_bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='JSON') AS
SELECT
  `code_value` AS `code`,
  AS_VALUE(`code_value`) AS `code_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  LATEST_BY_OFFSET(`last_sent`) AS `last_sent`,
  LATEST_BY_OFFSET(`price`) AS `price`,
  SUM(`_count_a1`) AS `_count_a1`
FROM `stamped_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `code_value`
EMIT FINAL;

-- Rows of stamped_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `stamped_bars_5m_final_declared` (
  `code_copy` VARCHAR,
  `start` TIMESTAMP,
  `last_sent` TIMESTAMP,
  `price` DECIMAL(9,2),
  `_count_a1` BIGINT
) WITH (KAFKA_TOPIC='stamped_bars_5m_final', VALUE_FORMAT='JSON', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `stamped_bars_5m_filled` WITH (KAFKA_TOPIC='stamped_bars_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='JSON') AS
SELECT
  `code_copy` AS `code`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a1`, FALSE) > 0 THEN LATEST_BY_OFFSET(`last_sent`, FALSE) ELSE LATEST_BY_OFFSET(`last_sent`) END AS `last_sent`,
  LATEST_BY_OFFSET(`price`) AS `price`
FROM `stamped_bars_5m_final_declared`
GROUP BY `code_copy`
HAVING LATEST_BY_OFFSET(`price`) IS NOT NULL
EMIT CHANGES;
