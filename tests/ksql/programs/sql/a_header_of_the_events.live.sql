@settings

-- Traced: topic traced.
CREATE STREAM IF NOT EXISTS `traced` (
  `name` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `source` BYTES HEADER('source-id')
) WITH (KAFKA_TOPIC='traced', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

@kandle_decides_which_2

-- Open TracedBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `traced_bars_1m_live` WITH (KAFKA_TOPIC='traced_bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `name`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`price`) AS `highest`,
  COUNT(FROM_BYTES(`source`, 'utf8')) AS `sources`,
  TOPK(CASE WHEN FROM_BYTES(`source`, 'utf8') IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, FROM_BYTES(`source`, 'utf8'), 1)[1]->`col0` AS `last_source`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  MAX(CASE WHEN FROM_BYTES(`source`, 'utf8') IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_last_a1_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a0`
FROM `traced`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
WHERE COALESCE(FROM_BYTES(`source`, 'utf8'), 'unknown') <> 'test'
GROUP BY `name`
EMIT CHANGES;
