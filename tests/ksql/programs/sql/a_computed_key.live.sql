@settings

@trades

@kandle_decides_which_2

-- Events with the parts of the group key as columns, and the time of the query as their time.
CREATE STREAM IF NOT EXISTS `lots_prepared` WITH (KAFKA_TOPIC='lots_prepared', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `time`,
  `size`,
  `price`,
  UCASE(SUBSTRING(`symbol`, 1, 3)) AS `_k0`
FROM `trades`
WHERE `price` > 0
EMIT CHANGES;

-- Open LotBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `lots_1m_live` WITH (KAFKA_TOPIC='lots_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `_k0` AS `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a1`
FROM `lots_prepared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `_k0`
EMIT CHANGES;
