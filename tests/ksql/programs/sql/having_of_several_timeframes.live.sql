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

-- What is late, gaps and finals are judged by kandle: windows here take late events for days.
-- The condition of having is applied by kandle to finals, since bars that it drops still count in the roll-up.
-- Bars of 5m are made by kandle from those of 1m.

-- LotBar of 1m while they are open, with what kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `lots_1m_live` WITH (KAFKA_TOPIC='lots_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
