@settings

-- Seconds: topic seconds.
CREATE STREAM IF NOT EXISTS `seconds` (
  `code` VARCHAR KEY,
  `time` BIGINT,
  `price` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='seconds', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='JSON');

@kandle_decides_which

-- Events with the parts of the group key as columns, and the time of the query as their time.
CREATE STREAM IF NOT EXISTS `line_bars_prepared` WITH (KAFKA_TOPIC='line_bars_prepared', VALUE_FORMAT='JSON', TIMESTAMP='`time`') AS
SELECT
  `code`,
  FROM_UNIXTIME(`time` * 1000) AS `time`,
  `price`
FROM `seconds`
EMIT CHANGES;

-- Open LineBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `line_bars_1m_live` WITH (KAFKA_TOPIC='line_bars_1m_live', KEY_FORMAT='KAFKA', VALUE_FORMAT='JSON') AS
SELECT
  `code`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `price`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`
FROM `line_bars_prepared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `code`
EMIT CHANGES;
