@settings

@instruments


-- InstrumentName: one row for each row of Instrument.
CREATE TABLE IF NOT EXISTS `instrument_names` WITH (KAFKA_TOPIC='instrument_names', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `code`,
  COALESCE(`name`, '?') AS `label`
FROM `instruments`
WHERE `lot` > 1
EMIT CHANGES;
