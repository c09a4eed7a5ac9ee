SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';

-- Trade: topic trades.
CREATE STREAM IF NOT EXISTS `trades` (
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `size` BIGINT,
  `buyer` VARCHAR,
  `ratio` DOUBLE,
  `active` BOOLEAN,
  `settles` DATE,
  `seen` TIMESTAMP,
  `fine` DECIMAL(30,12)
) WITH (KAFKA_TOPIC='trades', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

-- Quote: topic quotes.
CREATE STREAM IF NOT EXISTS `quotes` (
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6),
  `venue` VARCHAR
) WITH (KAFKA_TOPIC='quotes', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');


-- The join key of Quote as one column.
CREATE STREAM IF NOT EXISTS `pairs_quotes_by_key` WITH (KAFKA_TOPIC='pairs_quotes_by_key', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `time`,
  `price`,
  `venue`,
  REPLACE(REPLACE(`symbol`, '%', '%25'), '|', '%7C') + '|' + CAST(`price` AS VARCHAR) AS `_id`
FROM `quotes`
EMIT CHANGES;

-- Trade beside Quote.
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

-- Pair of each Trade.
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
