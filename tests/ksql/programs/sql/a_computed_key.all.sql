@settings_2

@trades

@heartbeats_close_the

-- Events with the parts of the group key as columns, and the time of the query as their time.
CREATE STREAM IF NOT EXISTS `lots_prepared` WITH (KAFKA_TOPIC='lots_prepared', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `time`,
  `size`,
  `price`,
  UCASE(SUBSTRING(`symbol`, 1, 3)) AS `_k0`
FROM `trades`
WHERE (`price` > 0) OR (`price` IS NULL)
EMIT CHANGES;

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `lots_1m_final` WITH (KAFKA_TOPIC='lots_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `_k0` AS `symbol`,
  AS_VALUE(`_k0`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a1`
FROM `lots_prepared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `_k0`
EMIT FINAL;

@lots_1m_final_declared

@lots_1m_filled

@lots_5m_final

@lots_5m_final_declared

-- Final bars of 5m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `lots_5m_filled` WITH (KAFKA_TOPIC='lots_5m_filled', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol_copy` AS `symbol`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`lots`, FALSE) AS `lots`,
  COALESCE(LATEST_BY_OFFSET(`high`, FALSE), LATEST_BY_OFFSET(`_last_a1`)) AS `high`
FROM `lots_5m_final_declared`
GROUP BY `symbol_copy`
HAVING LATEST_BY_OFFSET(`_last_a1`) IS NOT NULL
EMIT CHANGES;
