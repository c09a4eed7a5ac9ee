@settings_2

-- Line: topic lines, whose times ksqlDB takes for local ones of its computer: that must have the time zone UTC.
CREATE STREAM IF NOT EXISTS `lines` (
  `code` VARCHAR KEY,
  `time` VARCHAR,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='lines', PARTITIONS=1, KEY_FORMAT='KAFKA', VALUE_FORMAT='DELIMITED', TIMESTAMP='`time`', TIMESTAMP_FORMAT='dd.MM.yyyy HH:mm:ss');

-- Heartbeats close the bars: rows of topic lines that have code, time, and NULL in all other columns, so the schema of its
-- values must allow NULL. There is one for each key and bucket of 1m, at the end of the bucket + 0 SECONDS or later. A
-- bucket is a bar only if an event or a heartbeat fell into it.
-- Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its source
-- later still. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, but after a restart they are
-- taken until a newer row comes. Partitions that are read unevenly after an absence make events late.
-- In _final a bar without events has NULL, its sums and counts 0. In _filled the last values are carried on.

-- Finals of 1m.
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

-- Finals of 5m.
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

-- Rows of line_bars_5m_final, at their start.
CREATE STREAM IF NOT EXISTS `line_bars_5m_final_declared` (
  `code_copy` VARCHAR,
  `start` TIMESTAMP,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='line_bars_5m_final', VALUE_FORMAT='JSON', TIMESTAMP='`start`');

-- Bars of 5m, one change each, with the last values carried on where nothing happened.
CREATE TABLE IF NOT EXISTS `line_bars_5m_filled` WITH (KAFKA_TOPIC='line_bars_5m_filled', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code_copy` AS `code`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`price`) AS `price`
FROM `line_bars_5m_final_declared`
GROUP BY `code_copy`
HAVING LATEST_BY_OFFSET(`price`) IS NOT NULL
EMIT CHANGES;
