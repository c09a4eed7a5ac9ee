@settings_2

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

-- Heartbeats close the bars: rows of topic everything with values for key, number, on, time and NULL in all other columns,
-- so the schema of its values must allow NULL. Each key needs one for each bucket of 1m, at the end of the bucket + 0
-- SECONDS or later. A bucket becomes a bar only if it contains an event or a heartbeat.
-- Limits: a bar closes when a later row of the same partition arrives, and a bar of a larger timeframe when one more bar
-- of its source has closed. A silence longer than 7 DAYS loses the bar before it. Late events are dropped, except after a
-- restart until a newer row arrives. If partitions are read at different speeds after a pause, events can become late.
-- In _final, a bar without events has NULL, and 0 for sums and counts. In _filled, it carries the last values.

-- Final bars of 1m.
CREATE TABLE IF NOT EXISTS `everything_bars_1m_final` WITH (KAFKA_TOPIC='everything_bars_1m_final', KEY_FORMAT='JSON', VALUE_FORMAT='JSON') AS
SELECT
  `key`,
  `number`,
  `on`,
  AS_VALUE(`key`) AS `key_value`,
  AS_VALUE(`number`) AS `number_value`,
  AS_VALUE(`on`) AS `on_value`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(CASE WHEN `flag` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `flag`, 1)[1]->`col0` AS `flag`,
  TOPK(CASE WHEN `count` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `count`, 1)[1]->`col0` AS `count`,
  TOPK(CASE WHEN `ratio` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `ratio`, 1)[1]->`col0` AS `ratio`,
  TOPK(CASE WHEN `price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `price`, 1)[1]->`col0` AS `price`,
  TOPK(CASE WHEN `text` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `text`, 1)[1]->`col0` AS `text`,
  TOPK(CASE WHEN `identity` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `identity`, 1)[1]->`col0` AS `identity`,
  TOPK(CASE WHEN `raw` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `raw`, 1)[1]->`col0` AS `raw`,
  TOPK(CASE WHEN `day` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `day`, 1)[1]->`col0` AS `day`,
  TOPK(CASE WHEN `at` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `at`, 1)[1]->`col0` AS `at`,
  TOPK(CASE WHEN `maybe_price` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `maybe_price`, 1)[1]->`col0` AS `maybe_price`,
  TOPK(CASE WHEN `maybe_text` IS NOT NULL THEN FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0') END, `maybe_text`, 1)[1]->`col0` AS `maybe_text`,
  COUNT(`flag`) AS `_count_a0`
FROM `everything`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 0 SECONDS)
GROUP BY `key`, `number`, `on`
EMIT FINAL;

-- Rows of everything_bars_1m_final, with the start of the bucket as their time.
CREATE STREAM IF NOT EXISTS `everything_bars_1m_final_declared` (
  `key_value` VARCHAR,
  `number_value` BIGINT,
  `on_value` DATE,
  `start` TIMESTAMP,
  `flag` BOOLEAN,
  `count` BIGINT,
  `ratio` DOUBLE,
  `price` DECIMAL(38,18),
  `text` VARCHAR,
  `identity` VARCHAR,
  `raw` BYTES,
  `day` DATE,
  `at` TIMESTAMP,
  `maybe_price` DECIMAL(9,0),
  `maybe_text` VARCHAR,
  `_count_a0` BIGINT
) WITH (KAFKA_TOPIC='everything_bars_1m_final', VALUE_FORMAT='JSON', TIMESTAMP='`start`');

-- Final bars of 1m. Each is written once, and bars without events carry the last values.
CREATE TABLE IF NOT EXISTS `everything_bars_1m_filled` WITH (KAFKA_TOPIC='everything_bars_1m_filled', KEY_FORMAT='JSON', VALUE_FORMAT='JSON') AS
SELECT
  `key_value` AS `key`,
  `number_value` AS `number`,
  `on_value` AS `on`,
  LATEST_BY_OFFSET(`start`, FALSE) AS `start`,
  LATEST_BY_OFFSET(`flag`) AS `flag`,
  LATEST_BY_OFFSET(`count`) AS `count`,
  LATEST_BY_OFFSET(`ratio`) AS `ratio`,
  LATEST_BY_OFFSET(`price`) AS `price`,
  LATEST_BY_OFFSET(`text`) AS `text`,
  LATEST_BY_OFFSET(`identity`) AS `identity`,
  LATEST_BY_OFFSET(`raw`) AS `raw`,
  LATEST_BY_OFFSET(`day`) AS `day`,
  LATEST_BY_OFFSET(`at`) AS `at`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN LATEST_BY_OFFSET(`maybe_price`, FALSE) ELSE LATEST_BY_OFFSET(`maybe_price`) END AS `maybe_price`,
  CASE WHEN LATEST_BY_OFFSET(`_count_a0`, FALSE) > 0 THEN LATEST_BY_OFFSET(`maybe_text`, FALSE) ELSE LATEST_BY_OFFSET(`maybe_text`) END AS `maybe_text`
FROM `everything_bars_1m_final_declared`
GROUP BY `key_value`, `number_value`, `on_value`
HAVING LATEST_BY_OFFSET(`flag`) IS NOT NULL
EMIT CHANGES;
