@settings

@instruments

-- Factor: topic factors.
CREATE TABLE IF NOT EXISTS `factors` (
  `code` VARCHAR PRIMARY KEY,
  `factor` DOUBLE
) WITH (KAFKA_TOPIC='factors', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO');


-- Instrument joined with Factor.
CREATE TABLE IF NOT EXISTS `weighted_joined` WITH (KAFKA_TOPIC='weighted_joined', VALUE_FORMAT='AVRO') AS
SELECT
  `t`.`code` AS `code`,
  `o`.`factor` AS `factor`,
  `t`.`lot` AS `lot`
FROM `instruments` `t`
  JOIN `factors` `o` ON `t`.`code` = `o`.`code`
WHERE `o`.`factor` > 0
EMIT CHANGES;

-- Weighted: one row for each row of Instrument.
CREATE TABLE IF NOT EXISTS `weighted` WITH (KAFKA_TOPIC='weighted', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `code`,
  `factor` * `lot` AS `weight`
FROM `weighted_joined`
EMIT CHANGES;
