@settings

@ticks

@kandle_decides_which_2

-- Open Bar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `bars_1m_live` WITH (KAFKA_TOPIC='bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker`,
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(0 - UNIX_TIMESTAMP(`time`), `bid`, 1)[1]->`col0` AS `open`,
  MAX(`bid`) AS `high`,
  MIN(`bid`) AS `low`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `bid`, 1)[1]->`col0` AS `close`,
  SUM(`size`) AS `volume`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`
FROM `ticks`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `broker`, `symbol`
EMIT CHANGES;
