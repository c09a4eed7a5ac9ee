@settings

@readings

@kandle_decides_which_2

-- Open SensorPeak of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `sensor_peaks_1m_live` WITH (KAFKA_TOPIC='sensor_peaks_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `sensor`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `peak`,
  MIN(UNIX_TIMESTAMP(`at`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`at`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`at`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `value`, 1)[1]->`col0` AS `_last_a0`
FROM `readings`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `sensor`
EMIT CHANGES;
