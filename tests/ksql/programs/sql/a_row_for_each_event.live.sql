@settings

@trades


-- LargeTrade: one row for each row of Trade.
CREATE STREAM IF NOT EXISTS `large_trades` WITH (KAFKA_TOPIC='large_trades', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `time`,
  `price` * `size` AS `value`
FROM `trades`
WHERE `size` > 100
EMIT CHANGES;
