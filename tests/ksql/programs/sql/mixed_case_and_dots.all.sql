@settings_2

-- MixedCase: topic Market.Ticks-v2.
CREATE STREAM IF NOT EXISTS `Market_Ticks_v2` (
  `SYMBOL` VARCHAR KEY,
  `eventTime` TIMESTAMP,
  `lastPrice` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='Market.Ticks-v2', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`eventTime`');

-- Heartbeats close the bars: rows of topic Market.Ticks-v2 with values for SYMBOL, eventTime and NULL in all other
-- columns, so the schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket
-- + 0 SECONDS or later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- A bar of a larger timeframe closes when the next bar of its source that has events closes (gaps=skip).

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `Market_Bars_1m_final` WITH (KAFKA_TOPIC='Market.Bars_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `SYMBOL`,
  AS_VALUE(`SYMBOL`) AS `SYMBOL_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `Start`,
  TOPK(CASE WHEN `lastPrice` IS NOT NULL THEN FORMAT_TIMESTAMP(`eventTime`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `lastPrice`, 1)[1]->`col0` AS `lastPrice`
FROM `Market_Ticks_v2`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `SYMBOL`
HAVING COUNT(`lastPrice`) > 0
EMIT FINAL;

-- Rows of Market_Bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `Market_Bars_1m_final_declared` (
  `SYMBOL_value` VARCHAR,
  `Start` TIMESTAMP,
  `lastPrice` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='Market.Bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`Start`');

-- Final bars of 5m.
CREATE TABLE IF NOT EXISTS `Market_Bars_5m_final` WITH (KAFKA_TOPIC='Market.Bars_5m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `SYMBOL_value` AS `SYMBOL`,
  AS_VALUE(`SYMBOL_value`) AS `SYMBOL_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `Start`,
  LATEST_BY_OFFSET(`lastPrice`) AS `lastPrice`
FROM `Market_Bars_1m_final_declared`
WINDOW TUMBLING (SIZE 5 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `SYMBOL_value`
EMIT FINAL;
