@settings

@readings

@kandle_decides_which_2

-- Events with the parts of the group key as columns, and the time of the query as their time.
CREATE STREAM IF NOT EXISTS `peaks_prepared` WITH (KAFKA_TOPIC='peaks_prepared', VALUE_FORMAT='AVRO') AS
SELECT
  `at`,
  `value`,
  CAST(0 AS BIGINT) AS `_k0`
FROM `readings`
EMIT CHANGES;

-- Open Peak of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `peaks_1m_live` WITH (KAFKA_TOPIC='peaks_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `_k0`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `peak`,
  COUNT(*) AS `readings`,
  MIN(UNIX_TIMESTAMP(`at`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`at`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`at`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `value`, 1)[1]->`col0` AS `_last_a0`
FROM `peaks_prepared`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `_k0`
EMIT CHANGES;
