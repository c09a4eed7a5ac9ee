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
CREATE TABLE IF NOT EXISTS `texts_1m_final` WITH (KAFKA_TOPIC='texts_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  UCASE(`symbol`) + ' · ' + COALESCE(TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0`, 'niemand / 誰も') AS `label`,
  CASE WHEN SUM(`size`) > 100 THEN 'large' WHEN COUNT(`price`) > 1 THEN 'it''s several' ELSE 'small' END AS `kind`,
  CASE WHEN NOT (CAST(SUM(`size`) AS VARCHAR) = '0') THEN CAST(SUM(`size`) AS VARCHAR) END AS `size`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0` AS `_last_a0`,
  SUM(`size`) AS `_sum_a1`,
  COUNT(`price`) AS `_count_a2`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
HAVING COUNT(`price`) > 0
EMIT FINAL;

-- Rows of texts_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `texts_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `label` VARCHAR,
  `kind` VARCHAR,
  `size` VARCHAR,
  `_last_a0` VARCHAR,
  `_sum_a1` BIGINT,
  `_count_a2` BIGINT
) WITH (KAFKA_TOPIC='texts_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `texts_5m_final` WITH (KAFKA_TOPIC='texts_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  UCASE(`symbol_value`) + ' · ' + COALESCE(LATEST_BY_OFFSET(`_last_a0`), 'niemand / 誰も') AS `label`,
  CASE WHEN SUM(`_sum_a1`) > 100 THEN 'large' WHEN SUM(`_count_a2`) > 1 THEN 'it''s several' ELSE 'small' END AS `kind`,
  CASE WHEN (SUM(`_sum_a1`) IS NOT NULL) AND (NOT (CAST(SUM(`_sum_a1`) AS VARCHAR) = '0')) THEN CAST(SUM(`_sum_a1`) AS VARCHAR) END AS `size`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`,
  SUM(`_sum_a1`) AS `_sum_a1`,
  SUM(`_count_a2`) AS `_count_a2`
FROM `texts_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;
