@settings

@trades

-- kandle decides which events are late, fills gaps and writes final bars, so the windows here accept late events for days.
-- kandle makes bars of 3m from those of 1m.

-- Open Spans of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `spans_1m_live` WITH (KAFKA_TOPIC='spans_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  FROM_UNIXTIME(WINDOWEND) AS `end`,
  UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWEND)) - UNIX_TIMESTAMP(FROM_UNIXTIME(WINDOWSTART)) AS `length`,
  CAST(MAX(`price`) - MIN(`price`) AS DECIMAL(18,6)) AS `span`,
  AS_VALUE(`symbol`) AS `same_symbol`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  MAX(`price`) AS `_max_a0`,
  MIN(`price`) AS `_min_a0`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a0`
FROM `trades`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `symbol`
EMIT CHANGES;
