@settings

-- Stamped: topic stamped, whose times ksqlDB reads in the time zone of its server, which must be UTC.
CREATE STREAM IF NOT EXISTS `stamped` (
  `code` VARCHAR KEY,
  `time` VARCHAR,
  `sent` VARCHAR,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='stamped', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='JSON', TIMESTAMP='`time`', TIMESTAMP_FORMAT='yyyy-MM-dd''T''HH:mm:ss.SSS''Z''');

@kandle_decides_which_2

-- Open StampedBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `stamped_bars_1m_live` WITH (KAFKA_TOPIC='stamped_bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='JSON') AS
SELECT
  `code`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN CASE WHEN `sent` IS NOT NULL THEN PARSE_TIMESTAMP(`sent`, 'yyyy/MM/dd HH:mm:ss') END IS NOT NULL THEN FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, CASE WHEN `sent` IS NOT NULL THEN PARSE_TIMESTAMP(`sent`, 'yyyy/MM/dd HH:mm:ss') END, 1)[1]->`col0` AS `last_sent`,
  TOPK(FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `price`,
  MIN(UNIX_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''))) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''))) AS `_last_time`,
  MAX(CASE WHEN CASE WHEN `sent` IS NOT NULL THEN PARSE_TIMESTAMP(`sent`, 'yyyy/MM/dd HH:mm:ss') END IS NOT NULL THEN UNIX_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')) END) AS `_last_a0_time`
FROM `stamped`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `code`
EMIT CHANGES;
