@settings

@trades


-- Total: one row per group key.
CREATE TABLE IF NOT EXISTS `totals` WITH (KAFKA_TOPIC='totals', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  COUNT(*) AS `trades`,
  SUM(`size`) AS `volume`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `newest`
FROM `trades`
WHERE `size` > 0
GROUP BY `symbol`
HAVING COUNT(*) > 1
EMIT CHANGES;
