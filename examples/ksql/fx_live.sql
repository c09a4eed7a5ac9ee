-- Fx on ksqlDB, role live, written by kandle script.
-- ksqlDB takes all instants for milliseconds: set fields.instants = millis where kandle writes these topics.

SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';

-- Quote: topic quotes.
CREATE STREAM IF NOT EXISTS `quotes` (
  `broker` VARCHAR KEY,
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `bid` DECIMAL(18,5),
  `ask` DECIMAL(18,5)
) WITH (KAFKA_TOPIC='quotes', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.
-- kandle makes bars of 1m, 5m, 1h, 1d from those of 1s.

-- Open QuoteBar of 1s, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `quote_bars_1s_live` WITH (KAFKA_TOPIC='quote_bars_1s_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  `broker`,
  `symbol`,
  TOPK(0 - UNIX_TIMESTAMP(`time`), `bid`, 1)[1]->`col0` AS `bid_open`,
  MAX(`bid`) AS `bid_high`,
  MIN(`bid`) AS `bid_low`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `bid`, 1)[1]->`col0` AS `bid_close`,
  TOPK(0 - UNIX_TIMESTAMP(`time`), `ask`, 1)[1]->`col0` AS `ask_open`,
  MAX(`ask`) AS `ask_high`,
  MIN(`ask`) AS `ask_low`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `ask`, 1)[1]->`col0` AS `ask_close`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`
FROM `quotes`
WINDOW TUMBLING (SIZE 1 SECONDS, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `broker`, `symbol`
EMIT CHANGES;
