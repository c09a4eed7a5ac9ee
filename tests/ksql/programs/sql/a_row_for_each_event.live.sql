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


-- LargeTrade of each Trade.
CREATE STREAM IF NOT EXISTS `large_trades` WITH (KAFKA_TOPIC='large_trades', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `time`,
  `price` * `size` AS `value`
FROM `trades`
WHERE `size` > 100
EMIT CHANGES;
