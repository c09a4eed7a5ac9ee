@settings

-- Order: topic orders.
CREATE STREAM IF NOT EXISTS `orders` (
  `venue` VARCHAR KEY,
  `desk` BIGINT KEY,
  `code` VARCHAR KEY,
  `amount` DECIMAL(12,2),
  `placed` TIMESTAMP
) WITH (KAFKA_TOPIC='orders', PARTITIONS=3, REPLICAS=2, RETENTION_MS=2592000000, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`placed`');

@kandle_decides_which_2

-- Open OrderBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `order_bars_1m_live` WITH (KAFKA_TOPIC='order_bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', PARTITIONS=6, REPLICAS=2) AS
SELECT
  FROM_UNIXTIME(WINDOWSTART) AS `bucket`,
  `venue` AS `where`,
  `desk` AS `who`,
  `code` AS `what`,
  SUM(CAST(`amount` AS DECIMAL(38,2))) AS `total`,
  MIN(UNIX_TIMESTAMP(`placed`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`placed`)) AS `_last_time`
FROM `orders`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `venue`, `desk`, `code`
EMIT CHANGES;
