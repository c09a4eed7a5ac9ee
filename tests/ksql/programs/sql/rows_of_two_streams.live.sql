@settings

@trades

@quotes


-- Quote with its join key in one column.
CREATE STREAM IF NOT EXISTS `pairs_quotes_by_key` WITH (KAFKA_TOPIC='pairs_quotes_by_key', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `time`,
  `price`,
  `venue`,
  REPLACE(REPLACE(`symbol`, '%', '%25'), '|', '%7C') + '|' + CAST(`price` AS VARCHAR) AS `_id`
FROM `quotes`
EMIT CHANGES;

-- Trade joined with Quote.
CREATE STREAM IF NOT EXISTS `pairs_joined` WITH (KAFKA_TOPIC='pairs_joined', VALUE_FORMAT='AVRO') AS
SELECT
  `o`.`_id` AS `_id`,
  `t`.`symbol` AS `symbol`,
  `o`.`time` AS `time`,
  `t`.`price` AS `price`,
  `o`.`price` AS `quote_price`,
  `o`.`venue` AS `venue`
FROM `trades` `t`
  JOIN `pairs_quotes_by_key` `o` WITHIN 500 MILLISECONDS GRACE PERIOD 1 DAYS ON REPLACE(REPLACE(`t`.`symbol`, '%', '%25'), '|', '%7C') + '|' + CAST(`t`.`price` AS VARCHAR) = `o`.`_id`
EMIT CHANGES;

-- Pair: one row for each row of Trade.
CREATE STREAM IF NOT EXISTS `pairs` WITH (KAFKA_TOPIC='pairs', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`') AS
SELECT
  `symbol`,
  `time`,
  `price` AS `traded`,
  `quote_price` AS `quoted`,
  `venue`
FROM `pairs_joined`
PARTITION BY `symbol`
EMIT CHANGES;
