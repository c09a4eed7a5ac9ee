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


-- ByBuyer of each Trade.
CREATE STREAM IF NOT EXISTS `by_buyer` WITH (KAFKA_TOPIC='by_buyer', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', RETENTION_MS=43200000, TIMESTAMP='`time`') AS
SELECT
  COALESCE(`buyer`, 'nobody') AS `buyer`,
  `symbol`,
  COALESCE(`seen`, `time`) AS `time`,
  `price`
FROM `trades`
PARTITION BY COALESCE(`buyer`, 'nobody'), `symbol`
EMIT CHANGES;
