@settings

@trades


-- ByBuyer: one row for each row of Trade.
CREATE STREAM IF NOT EXISTS `by_buyer` WITH (KAFKA_TOPIC='by_buyer', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', RETENTION_MS=43200000, TIMESTAMP='`time`') AS
SELECT
  COALESCE(`buyer`, 'nobody') AS `buyer`,
  `symbol`,
  COALESCE(`seen`, `time`) AS `time`,
  `price`
FROM `trades`
PARTITION BY COALESCE(`buyer`, 'nobody'), `symbol`
EMIT CHANGES;
