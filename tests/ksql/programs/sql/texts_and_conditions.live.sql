@settings

@trades

@kandle_decides_which_2

-- Open Texts of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `texts_1m_live` WITH (KAFKA_TOPIC='texts_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  UCASE(`symbol`) + ' · ' + COALESCE(TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0`, 'niemand / 誰も') AS `label`,
  CASE WHEN SUM(`size`) > 100 THEN 'large' WHEN COUNT(*) > 1 THEN 'it''s several' ELSE 'small' END AS `kind`,
  CASE WHEN NOT (CAST(SUM(`size`) AS VARCHAR) = '0') THEN CAST(SUM(`size`) AS VARCHAR) END AS `size`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(CASE WHEN `buyer` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `buyer`, 1)[1]->`col0` AS `_last_a0`,
  MAX(CASE WHEN `buyer` IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_last_a0_time`,
  SUM(`size`) AS `_sum_a1`,
  COUNT(*) AS `_count`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
