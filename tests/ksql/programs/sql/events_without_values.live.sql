@settings

-- Ping: topic pings.
CREATE STREAM IF NOT EXISTS `pings` (
  `host` VARCHAR KEY,
  `time` TIMESTAMP,
  `note` VARCHAR
) WITH (KAFKA_TOPIC='pings', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

@kandle_decides_which

-- Open PingBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `ping_bars_1m_live` WITH (KAFKA_TOPIC='ping_bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `host`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  COUNT(*) AS `pings`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`
FROM `pings`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `host`
EMIT CHANGES;
