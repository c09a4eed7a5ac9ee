@settings

-- Fund: topic funds.
CREATE TABLE IF NOT EXISTS `funds` (
  `fund` VARCHAR PRIMARY KEY,
  `market` VARCHAR,
  `shares` BIGINT
) WITH (KAFKA_TOPIC='funds', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO');

-- Factor: topic factors.
CREATE TABLE IF NOT EXISTS `factors` (
  `code` VARCHAR PRIMARY KEY,
  `factor` DOUBLE
) WITH (KAFKA_TOPIC='factors', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO');


-- Fund joined with Factor.
CREATE TABLE IF NOT EXISTS `fund_weights_joined` WITH (KAFKA_TOPIC='fund_weights_joined', VALUE_FORMAT='AVRO') AS
SELECT
  `t`.`fund` AS `fund`,
  `t`.`market` AS `market`,
  `o`.`factor` AS `factor`,
  `t`.`shares` AS `shares`
FROM `funds` `t`
  LEFT JOIN `factors` `o` ON `t`.`market` = `o`.`code`
EMIT CHANGES;

-- FundWeight: one row for each row of Fund.
CREATE TABLE IF NOT EXISTS `fund_weights` WITH (KAFKA_TOPIC='fund_weights', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `fund`,
  `market`,
  `factor` * `shares` AS `weight`
FROM `fund_weights_joined`
EMIT CHANGES;
