@settings

@trades


-- Copy: one row for each row of Trade.
CREATE STREAM IF NOT EXISTS `copies` WITH (KAFKA_TOPIC='copies', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `size` * 2 AS `double`
FROM `trades`
PARTITION BY NULL
EMIT CHANGES;
