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


-- Total by key.
CREATE TABLE IF NOT EXISTS `totals` WITH (KAFKA_TOPIC='totals', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  COUNT(*) AS `trades`,
  SUM(`size`) AS `volume`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `newest`
FROM `trades`
WHERE `size` > 0
GROUP BY `symbol`
HAVING COUNT(*) > 1
EMIT CHANGES;
