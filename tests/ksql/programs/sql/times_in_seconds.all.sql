@settings_2

-- Seconds: topic seconds.
CREATE STREAM IF NOT EXISTS `seconds` (
  `code` VARCHAR KEY,
  `time` BIGINT,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='seconds', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='JSON');

-- Heartbeats close the bars: rows of topic seconds with values for code, time and NULL in all other columns, so the schema
-- of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0 SECONDS or later.
-- A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Events with the parts of the group key as columns, and the time of the query as their time.
CREATE STREAM IF NOT EXISTS `line_bars_prepared` WITH (KAFKA_TOPIC='line_bars_prepared', VALUE_FORMAT='JSON', TIMESTAMP='`time`') AS
SELECT
  `code`,
  FROM_UNIXTIME(`time` * 1000) AS `time`,
  `price`
FROM `seconds`
EMIT CHANGES;

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `line_bars_1m_final` WITH (KAFKA_TOPIC='line_bars_1m_final', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code`,
  AS_VALUE(`code`) AS `code_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `price`
FROM `line_bars_prepared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `code`
EMIT FINAL;

@line_bars_1m_final_declared

@line_bars_1m_filled
