@settings

@ticks

@sessions

@sessions_by_key

@kandle_decides_which_2

-- Events within the sessions of their key.
CREATE STREAM IF NOT EXISTS `bars_in_session` WITH (KAFKA_TOPIC='bars_in_session', VALUE_FORMAT='AVRO') AS
SELECT
  `s`.`id` AS `id`,
  `t`.`broker` AS `broker`,
  `t`.`symbol` AS `symbol`,
  `t`.`time` AS `time`,
  `t`.`bid` AS `bid`,
  `t`.`size` AS `size`
FROM `ticks` `t`
  JOIN `sessions_by_key` `s` ON REPLACE(REPLACE(`t`.`broker`, '%', '%25'), '|', '%7C') + '|' + `t`.`symbol` = `s`.`id`
WHERE (`t`.`bid` > 0) AND (ARRAY_LENGTH(FILTER(`s`.`intervals`, i => (i->`open` <= `t`.`time`) AND (`t`.`time` < i->`close`))) > 0)
EMIT CHANGES;

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
FROM `bars_in_session`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `broker`, `symbol`
EMIT CHANGES;
