SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';
SET 'ksql.streams.__emit.interval.ms.kstreams.windowed.aggregation__'='0';

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

-- Heartbeats close the bars: rows of topic trades that have symbol, time, and NULL in all other columns, so the schema of
-- its values must allow NULL. There is one for each key and bucket of 1m, at the end of the bucket + 0 SECONDS or later. A
-- bucket is a bar only if an event or a heartbeat fell into it.
-- Limits: a bar closes when a later row of the same partition comes, and a bar of a larger timeframe one bar of its source
-- later still. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, but after a restart they are
-- taken until a newer row comes. Partitions that are read unevenly after an absence make events late.
-- In _final a bar without events has NULL, its sums and counts 0. In _filled the last values are carried on.

-- Finals of 1m.
CREATE TABLE IF NOT EXISTS `spans_1m_final` WITH (KAFKA_TOPIC='spans_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  FROM_UNIXTIME(WINDOWEND) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWEND)) - UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWSTART)) AS `length`,
  CAST(MAX(`price`) - MIN(`price`) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol`) AS `same_symbol`,
  MAX(`price`) AS `_max_a0`,
  MIN(`price`) AS `_min_a0`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a0`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol`
EMIT FINAL;

-- Rows of spans_1m_final, at their start.
CREATE STREAM IF NOT EXISTS `spans_1m_final_declared` (
  `symbol_value` VARCHAR,
  `start` TIMESTAMP,
  `end` TIMESTAMP,
  `length` BIGINT,
  `span` DECIMAL(18,6),
  `same_symbol` VARCHAR,
  `_max_a0` DECIMAL(18,6),
  `_min_a0` DECIMAL(18,6),
  `_last_a0` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='spans_1m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Bars of 1m, one change each, with the last values carried on where nothing happened.
CREATE TABLE IF NOT EXISTS `spans_1m_filled` WITH (KAFKA_TOPIC='spans_1m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 60000) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 60000)) - UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) AS `length`,
  CAST(COALESCE(LATEST_BY_OFFSET(`_max_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) - COALESCE(LATEST_BY_OFFSET(`_min_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol_value`) AS `same_symbol`
FROM `spans_1m_final_declared`
GROUP BY `symbol_value`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;

-- Finals of 3m.
CREATE TABLE IF NOT EXISTS `spans_3m_final` WITH (KAFKA_TOPIC='spans_3m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_value` AS `symbol`,
  AS_VALUE(`symbol_value`) AS `symbol_copy`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  FROM_UNIXTIME(WINDOWEND) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWEND)) - UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWSTART)) AS `length`,
  CAST(MAX(`_max_a0`) - MIN(`_min_a0`) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol_value`) AS `same_symbol`,
  MAX(`_max_a0`) AS `_max_a0`,
  MIN(`_min_a0`) AS `_min_a0`,
  LATEST_BY_OFFSET(`_last_a0`) AS `_last_a0`
FROM `spans_1m_final_declared`
WINDOW TUMBLING (SIZE 3 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `symbol_value`
EMIT FINAL;

-- Rows of spans_3m_final, at their start.
CREATE STREAM IF NOT EXISTS `spans_3m_final_declared` (
  `symbol_copy` VARCHAR,
  `start` TIMESTAMP,
  `end` TIMESTAMP,
  `length` BIGINT,
  `span` DECIMAL(18,6),
  `same_symbol` VARCHAR,
  `_max_a0` DECIMAL(18,6),
  `_min_a0` DECIMAL(18,6),
  `_last_a0` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='spans_3m_final', VALUE_FORMAT='AVRO', TIMESTAMP='`start`');

-- Bars of 3m, one change each, with the last values carried on where nothing happened.
CREATE TABLE IF NOT EXISTS `spans_3m_filled` WITH (KAFKA_TOPIC='spans_3m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 180000) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) + 180000)) - UNIX_TIMESTAMP(LATEST_BY_OFFSET(`start`, FALSE)) AS `length`,
  CAST(COALESCE(LATEST_BY_OFFSET(`_max_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) - COALESCE(LATEST_BY_OFFSET(`_min_a0`, FALSE), LATEST_BY_OFFSET(`_last_a0`)) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol_copy`) AS `same_symbol`
FROM `spans_3m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a0`) IS NOT NULL
EMIT CHANGES;
