@settings

-- Probe: topic 2-probes.raw.
CREATE STREAM IF NOT EXISTS `t_2_probes_raw` (
  `plant` VARCHAR KEY,
  `line` BIGINT KEY,
  `taken` VARCHAR,
  `value` DECIMAL(9,2)
) WITH (KAFKA_TOPIC='2-probes.raw', PARTITIONS=2, KEY_FORMAT='AVRO', VALUE_FORMAT='JSON', TIMESTAMP='`taken`', TIMESTAMP_FORMAT='yyyy-MM-dd''T''HH:mm:ss.SSSxx');

@kandle_decides_which_2

-- Open ProbeBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `probe_bars_1m_live` WITH (KAFKA_TOPIC='probe-bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `plant`,
  `line`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  MAX(`value`) AS `value`,
  MIN(UNIX_TIMESTAMP(PARSE_TIMESTAMP(`taken`, 'yyyy-MM-dd''T''HH:mm:ss.SSSxx'))) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(PARSE_TIMESTAMP(`taken`, 'yyyy-MM-dd''T''HH:mm:ss.SSSxx'))) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(PARSE_TIMESTAMP(`taken`, 'yyyy-MM-dd''T''HH:mm:ss.SSSxx'), 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `value`, 1)[1]->`col0` AS `_last_a0`
FROM `t_2_probes_raw`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `plant`, `line`
EMIT CHANGES;
