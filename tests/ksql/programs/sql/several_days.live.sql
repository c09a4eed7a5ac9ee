@settings

@trades

@kandle_decides_which

-- Open LotBar of 10d, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `lots_10d_live` WITH (KAFKA_TOPIC='lots_10d_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 10 DAYS, RETENTION 16 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
