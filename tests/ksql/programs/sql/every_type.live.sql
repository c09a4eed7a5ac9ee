@settings

-- Everything: topic everything.
CREATE STREAM IF NOT EXISTS `everything` (
  `key` VARCHAR KEY,
  `number` BIGINT KEY,
  `on` DATE KEY,
  `time` TIMESTAMP,
  `flag` BOOLEAN,
  `count` BIGINT,
  `ratio` DOUBLE,
  `price` DECIMAL(38,18),
  `text` VARCHAR,
  `identity` VARCHAR,
  `raw` BYTES,
  `day` DATE,
  `at` TIMESTAMP,
  `tags` MAP<VARCHAR, VARCHAR>,
  `maybe_flag` BOOLEAN,
  `maybe_count` BIGINT,
  `maybe_ratio` DOUBLE,
  `maybe_price` DECIMAL(9,0),
  `maybe_text` VARCHAR,
  `maybe_raw` BYTES,
  `maybe_day` DATE,
  `maybe_at` TIMESTAMP,
  `maybe_tags` MAP<VARCHAR, VARCHAR>
) WITH (KAFKA_TOPIC='everything', PARTITIONS=1, KEY_FORMAT='JSON', VALUE_FORMAT='JSON', TIMESTAMP='`time`');

@kandle_decides_which

-- Open EverythingBar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `everything_bars_1m_live` WITH (KAFKA_TOPIC='everything_bars_1m_live', KEY_FORMAT='JSON', VALUE_FORMAT='JSON') AS
SELECT
  `key`,
  `number`,
  `on`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `flag`, 1)[1]->`col0` AS `flag`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `count`, 1)[1]->`col0` AS `count`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `ratio`, 1)[1]->`col0` AS `ratio`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `price`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `text`, 1)[1]->`col0` AS `text`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `identity`, 1)[1]->`col0` AS `identity`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `raw`, 1)[1]->`col0` AS `raw`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `day`, 1)[1]->`col0` AS `day`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `at`, 1)[1]->`col0` AS `at`,
  TOPK(CASE WHEN `maybe_price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `maybe_price`, 1)[1]->`col0` AS `maybe_price`,
  TOPK(CASE WHEN `maybe_text` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `maybe_text`, 1)[1]->`col0` AS `maybe_text`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  MAX(CASE WHEN `maybe_price` IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_last_a9_time`,
  MAX(CASE WHEN `maybe_text` IS NOT NULL THEN UNIX_TIMESTAMP(`time`) END) AS `_last_a10_time`
FROM `everything`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `key`, `number`, `on`
EMIT CHANGES;
