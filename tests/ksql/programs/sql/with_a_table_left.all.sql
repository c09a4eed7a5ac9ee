@settings_2

@trades

@instruments

@heartbeats_close_the

-- Trade joined with Instrument.
CREATE STREAM IF NOT EXISTS `lots_joined` WITH (KAFKA_TOPIC='lots_joined', VALUE_FORMAT='AVRO') AS
SELECT
  `t`.`symbol` AS `symbol`,
  `t`.`time` AS `time`,
  `t`.`size` AS `size`,
  `o`.`lot` AS `lot`,
  `t`.`price` AS `price`
FROM `trades` `t`
  LEFT JOIN `instruments` `o` ON `t`.`symbol` = `o`.`code`
EMIT CHANGES;

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `lots_1m_final` WITH (KAFKA_TOPIC='lots_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size` * COALESCE(`lot`, CAST(1 AS BIGINT))) AS `lots`,
  MAX(`price`) AS `high`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a1`
FROM `lots_joined`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

@lots_1m_final_declared

@lots_1m_filled
