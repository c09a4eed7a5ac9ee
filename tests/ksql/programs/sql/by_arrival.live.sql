@settings

@trades

@kandle_decides_which_2

-- Open Arrivals of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `arrivals_1m_live` WITH (KAFKA_TOPIC='arrivals_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  EARLIEST_BY_OFFSET(`price`) AS `first`,
  LATEST_BY_OFFSET(`buyer`) AS `last`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  MIN(ROWOFFSET) AS `_first_offset_a0_at`,
  MAX(CASE WHEN `buyer` IS NOT NULL THEN ROWOFFSET END) AS `_last_offset_a1_at`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a0`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0` AS `_last_a1`,
  MAX(CASE WHEN `buyer` IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_last_a1_time`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
