@settings

@readings

-- Holiday: topic holidays.
CREATE TABLE IF NOT EXISTS `holidays` (
  `on` DATE PRIMARY KEY,
  `name` VARCHAR
) WITH (KAFKA_TOPIC='holidays', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO');

@kandle_decides_which

-- Reading joined with Holiday.
CREATE STREAM IF NOT EXISTS `sensor_peaks_joined` WITH (KAFKA_TOPIC='sensor_peaks_joined', VALUE_FORMAT='AVRO', KEY_FORMAT='JSON') AS
SELECT
  `o`.`on` AS `on`,
  `o`.`name` AS `name`,
  `t`.`at` AS `at`,
  `t`.`value` AS `value`
FROM `readings` `t`
  JOIN `holidays` `o` ON CAST(`t`.`at` AS DATE) = `o`.`on`
EMIT CHANGES;

-- Open SensorPeak of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `sensor_peaks_1m_live` WITH (KAFKA_TOPIC='sensor_peaks_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `name` AS `sensor`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `peak`,
  MIN(UNIX_TIMESTAMP(`at`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`at`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`at`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `value`, 1)[1]->`col0` AS `_last_a0`
FROM `sensor_peaks_joined`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `name`
EMIT CHANGES;
