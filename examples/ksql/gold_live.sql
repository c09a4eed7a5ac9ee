-- Gold on ksqlDB, role live, written by kandle script.
-- ksqlDB takes all instants for milliseconds: set fields.instants = millis where kandle writes these topics.

SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';

-- Trade: topic gold_trades.
CREATE STREAM IF NOT EXISTS `gold_trades` (
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `size` BIGINT
) WITH (KAFKA_TOPIC='gold_trades', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.
-- kandle makes bars of 5m, 1h, 1d from those of 1m.

-- Open TradeBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `gold_bars_1m_live` WITH (KAFKA_TOPIC='gold_bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  FROM_UNIXTIME(WINDOWSTART) AS `bucket_start`,
  `symbol`,
  TOPK(0 - UNIX_TIMESTAMP(`time`), `price`, 1)[1]->`col0` AS `open`,
  MAX(`price`) AS `high`,
  MIN(`price`) AS `low`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `close`,
  SUM(`size`) AS `volume`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`
FROM `gold_trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
