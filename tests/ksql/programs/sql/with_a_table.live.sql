@settings

@trades

@instruments

@kandle_decides_which_2

-- Trade joined with Instrument.
CREATE STREAM IF NOT EXISTS `lots_joined` WITH (KAFKA_TOPIC='lots_joined', VALUE_FORMAT='AVRO') AS
SELECT
  `t`.`symbol` AS `symbol`,
  `t`.`time` AS `time`,
  `o`.`lot` AS `lot`,
  `t`.`price` AS `price`
FROM `trades` `t`
  JOIN `instruments` `o` ON `t`.`symbol` = `o`.`code`
WHERE (`t`.`size` >= `o`.`lot`) AND (`o`.`time` <= `t`.`time`)
EMIT CHANGES;

-- Open LotBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `lots_1m_live` WITH (KAFKA_TOPIC='lots_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`lot`) AS `lots`,
  MAX(`price`) AS `high`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a1`
FROM `lots_joined`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
