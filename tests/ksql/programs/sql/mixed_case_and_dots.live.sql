@settings

-- MixedCase: topic Market.Ticks-v2.
CREATE STREAM IF NOT EXISTS `Market_Ticks_v2` (
  `SYMBOL` VARCHAR KEY,
  `eventTime` TIMESTAMP,
  `lastPrice` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='Market.Ticks-v2', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`eventTime`');

@kandle_decides_which_2

-- Open MixedCaseBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `Market_Bars_1m_live` WITH (KAFKA_TOPIC='Market.Bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `SYMBOL`,
  FROM_UNIXTIME(WINDOWSTART) AS `Start`,
  TOPK(FORMAT_TIMESTAMP(`eventTime`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `lastPrice`, 1)[1]->`col0` AS `lastPrice`,
  MIN(UNIX_TIMESTAMP(`eventTime`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`eventTime`)) AS `_last_time`
FROM `Market_Ticks_v2`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `SYMBOL`
EMIT CHANGES;
