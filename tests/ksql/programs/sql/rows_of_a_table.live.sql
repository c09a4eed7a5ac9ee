SET 'auto.offset.reset'='earliest';
SET 'commit.interval.ms'='200';

-- Instrument: topic instruments.
CREATE TABLE IF NOT EXISTS `instruments` (
  `code` VARCHAR PRIMARY KEY,
  `lot` BIGINT,
  `time` TIMESTAMP,
  `name` VARCHAR
) WITH (KAFKA_TOPIC='instruments', PARTITIONS=1, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO');


-- InstrumentName of each Instrument.
CREATE TABLE IF NOT EXISTS `instrument_names` WITH (KAFKA_TOPIC='instrument_names', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `code`,
  COALESCE(`name`, '?') AS `label`
FROM `instruments`
WHERE `lot` > 1
EMIT CHANGES;
