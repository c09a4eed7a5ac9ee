@settings

@trades

@kandle_decides_which_2

-- Open Ends of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `ends_1m_live` WITH (KAFKA_TOPIC='ends_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN 0 - UNIX_TIMESTAMP(`time`) END, `buyer`, 1)[1]->`col0` AS `first_buyer`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0` AS `last_buyer`,
  TOPK(0 - UNIX_TIMESTAMP(`time`), `active`, 1)[1]->`col0` AS `first_active`,
  TOPK(CASE WHEN `seen` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `seen`, 1)[1]->`col0` AS `last_seen`,
  MIN(`settles`) AS `least_day`,
  MAX(`symbol`) AS `greatest_symbol`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  MIN(CASE WHEN `buyer` IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_first_a0_time`,
  MAX(CASE WHEN `buyer` IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_last_a0_time`,
  MAX(CASE WHEN `seen` IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_last_a2_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `active`, 1)[1]->`col0` AS `_last_a1`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `settles`, 1)[1]->`col0` AS `_last_a3`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `symbol`, 1)[1]->`col0` AS `_last_a4`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
