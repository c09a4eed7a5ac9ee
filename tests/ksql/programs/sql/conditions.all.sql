@settings_2

@trades

@heartbeats_close_the

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `lots_1m_final` WITH (KAFKA_TOPIC='lots_1m_final', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  AS_VALUE(`symbol`) AS `symbol_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  SUM(`size`) AS `lots`,
  MAX(`price`) AS `high`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `_last_a1`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
WHERE ((`price` > 0) AND (NOT (`symbol` LIKE 'TEST%')) AND ((`buyer` IS NULL) OR (`buyer` <> 'Ö''Hara & Söhne — 東京')) AND ((`size` IN (1, 2, 3)) OR (`active` = TRUE) OR (COALESCE(`seen`, `time`) = `time`))) OR (`price` IS NULL)
GROUP BY `symbol`
EMIT FINAL;

@lots_1m_final_declared

@lots_1m_filled
