@settings

-- Line: topic lines, whose times ksqlDB reads in the time zone of its server, which must be UTC.
CREATE STREAM IF NOT EXISTS `lines` (
  `code` VARCHAR KEY,
  `time` VARCHAR,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='lines', PARTITIONS=1, KEY_FORMAT='KAFKA', VALUE_FORMAT='DELIMITED', TIMESTAMP='`time`', TIMESTAMP_FORMAT='dd.MM.yyyy HH:mm:ss');

@kandle_decides_which_2

-- Open LineBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `line_bars_1m_live` WITH (KAFKA_TOPIC='line_bars_1m_live', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'dd.MM.yyyy HH:mm:ss'), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `price`,
  MIN(UNIX_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'dd.MM.yyyy HH:mm:ss'))) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(PARSE_TIMESTAMP(`time`, 'dd.MM.yyyy HH:mm:ss'))) AS `_last_time`
FROM `lines`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `code`
EMIT CHANGES;
