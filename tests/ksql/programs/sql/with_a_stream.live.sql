@settings

@trades

@quotes

@kandle_decides_which_2

-- Trade joined with Quote.
CREATE STREAM IF NOT EXISTS `lots_joined` WITH (KAFKA_TOPIC='lots_joined', VALUE_FORMAT='AVRO', TIMESTAMP='`time`') AS
SELECT
  `t`.`symbol` AS `symbol`,
  `o`.`symbol` AS `quote_symbol`,
  `o`.`time` AS `time`,
  `t`.`size` AS `size`,
  `t`.`price` AS `price`,
  `o`.`price` AS `quote_price`
FROM `trades` `t`
  JOIN `quotes` `o` WITHIN 5 SECONDS GRACE PERIOD 1 MINUTES ON `t`.`symbol` = `o`.`symbol`
WHERE `t`.`price` >= `o`.`price`
EMIT CHANGES;

-- Open LotBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `lots_1m_live` WITH (KAFKA_TOPIC='lots_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `quote_symbol` AS `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(GREATEST(`price`, `quote_price`)) AS `high`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), GREATEST(`price`, `quote_price`), 1)[1]->`col0` AS `_last_a1`
FROM `lots_joined`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `quote_symbol`
EMIT CHANGES;
