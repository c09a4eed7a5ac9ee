@settings

-- Reserved: topic reserved.
CREATE STREAM IF NOT EXISTS `reserved` (
  `select` VARCHAR KEY,
  `timestamp` TIMESTAMP,
  `group` BIGINT,
  `size` BIGINT,
  `values` VARCHAR
) WITH (KAFKA_TOPIC='reserved', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`timestamp`');

@kandle_decides_which_2

-- Open ReservedBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `reserved_bars_1m_live` WITH (KAFKA_TOPIC='reserved_bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `select`,
  FROM_UNIXTIME(WINDOWSTART) AS `window`,
  MAX(`group`) AS `group`,
  SUM(`size`) AS `limit`,
  COUNT(`values`) AS `having`,
  MIN(UNIX_TIMESTAMP(`timestamp`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`timestamp`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`timestamp`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `group`, 1)[1]->`col0` AS `_last_a0`
FROM `reserved`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `select`
EMIT CHANGES;
