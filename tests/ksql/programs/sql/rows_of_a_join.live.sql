@settings

@trades

@instruments


-- Trade joined with Instrument.
CREATE STREAM IF NOT EXISTS `enriched_joined` WITH (KAFKA_TOPIC='enriched_joined', VALUE_FORMAT='AVRO') AS
SELECT
  `t`.`symbol` AS `symbol`,
  `t`.`time` AS `time`,
  `o`.`name` AS `name`,
  `t`.`size` AS `size`,
  `o`.`lot` AS `lot`
FROM `trades` `t`
  LEFT JOIN `instruments` `o` ON `t`.`symbol` = `o`.`code`
EMIT CHANGES;

-- Enriched: one row for each row of Trade.
CREATE STREAM IF NOT EXISTS `enriched` WITH (KAFKA_TOPIC='enriched', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`') AS
SELECT
  `symbol`,
  `time`,
  `name`,
  `size` / `lot` - CASE WHEN ((`size` % `lot` < 0) AND (`lot` > 0)) OR ((`size` % `lot` > 0) AND (`lot` < 0)) THEN 1 ELSE 0 END AS `lots`
FROM `enriched_joined`
EMIT CHANGES;
