@settings_2

-- Line: topic lines, whose times ksqlDB reads in the time zone of its server, which must be UTC.
CREATE STREAM IF NOT EXISTS `lines` (
  `code` VARCHAR KEY,
  `time` VARCHAR,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='lines', PARTITIONS=1, KEY_FORMAT='KAFKA', VALUE_FORMAT='DELIMITED', TIMESTAMP='`time`', TIMESTAMP_FORMAT='dd.MM.yyyy HH:mm:ss');

-- Heartbeats close the bars: rows of topic lines with values for code, time and NULL in all other columns, so the schema
-- of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or later.
-- A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `line_bars_1m_final` WITH (KAFKA_TOPIC='line_bars_1m_final', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code`,
  AS_VALUE(`code`) AS `code_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'dd.MM.yyyy HH:mm:ss'), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `price`
FROM `lines`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `code`
EMIT FINAL;

@line_bars_1m_final_declared

@line_bars_1m_filled

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `line_bars_5m_final` WITH (KAFKA_TOPIC='line_bars_5m_final', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code_value` AS `code`,
  AS_VALUE(`code_value`) AS `code_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  LATEST_BY_OFFSET(`price`) AS `price`
FROM `line_bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `code_value`
EMIT FINAL;

-- Rows of line_bars_5m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `line_bars_5m_final_declared` (
  `code_copy` VARCHAR,
  `start` TIMESTAMP,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='line_bars_5m_final', VALUE_FORMAT='JSON', TIMESTAMP='`start`');

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `line_bars_5m_filled` WITH (KAFKA_TOPIC='line_bars_5m_filled', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code_copy` AS `code`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`price`) AS `price`
FROM `line_bars_5m_final_declared`
GROUP BY `code_copy`
HAVING LATEST_BY_OFFSET(`price`) IS NOT NULL
EMIT CHANGES;
