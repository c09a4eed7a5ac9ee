@settings_2

-- MixedCase: topic Market.Ticks-v2.
CREATE STREAM IF NOT EXISTS `Market_Ticks_v2` (
  `SYMBOL` VARCHAR KEY,
  `eventTime` TIMESTAMP,
  `lastPrice` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='Market.Ticks-v2', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`eventTime`');

-- Heartbeats close the bars: rows of topic Market.Ticks-v2 that have SYMBOL, eventTime, and NULL in all other columns, so
-- the schema of its values must allow NULL. There is one for each key and bucket of 1m, at the end of the bucket + 0
-- SECONDS or later. A bucket is a bar only if an event or a heartbeat fell into it.
-- Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its source
-- later still. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, but after a restart they are
-- taken until a newer row comes. Partitions that are read unevenly after an absence make events late.
-- A bar of a larger timeframe closes when the next bar of its source with events does (gaps=skip).

-- Finals of 1m.
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

-- Rows of Market_Bars_1m_final, at their start.
CREATE STREAM IF NOT EXISTS `Market_Bars_1m_final_declared` (
  `SYMBOL_value` VARCHAR,
  `Start` TIMESTAMP,
  `lastPrice` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='Market.Bars_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`Start`');

-- Finals of 5m.
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
