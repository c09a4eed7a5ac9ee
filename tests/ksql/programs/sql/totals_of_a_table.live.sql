@settings

@instruments


-- Events with the parts of the group key as columns, and the time of the query as their time.
CREATE TABLE IF NOT EXISTS `lots_by_name_prepared` WITH (KAFKA_TOPIC='lots_by_name_prepared', VALUE_FORMAT='AVRO') AS
SELECT
  `code`,
  `name`,
  `lot`,
  UCASE(COALESCE(`name`, '')) AS `_k0`
FROM `instruments`
EMIT CHANGES;

-- LotsByName: one row per group key.
CREATE TABLE IF NOT EXISTS `lots_by_name` WITH (KAFKA_TOPIC='lots_by_name', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `_k0` AS `name`,
  COUNT(*) AS `instruments`,
  SUM(`lot`) AS `lots`
FROM `lots_by_name_prepared`
GROUP BY `_k0`
EMIT CHANGES;
