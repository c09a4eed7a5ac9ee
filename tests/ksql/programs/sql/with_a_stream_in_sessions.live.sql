@settings

@ticks

@sessions

-- BrokerQuote: topic broker_quotes.
CREATE STREAM IF NOT EXISTS `broker_quotes` (
  `symbol` VARCHAR KEY,
  `time` TIMESTAMP,
  `price` DECIMAL(18,6)
) WITH (KAFKA_TOPIC='broker_quotes', PARTITIONS=2, KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO', TIMESTAMP='`time`');

@sessions_by_key

@kandle_decides_which

-- BrokerQuote with its join key in one column.
CREATE STREAM IF NOT EXISTS `bars_broker_quotes_by_key` WITH (KAFKA_TOPIC='bars_broker_quotes_by_key', VALUE_FORMAT='AVRO') AS
SELECT
  `symbol`,
  `price`,
  UCASE(`symbol`) AS `_id`
FROM `broker_quotes`
EMIT CHANGES;

-- Tick joined with BrokerQuote.
CREATE STREAM IF NOT EXISTS `bars_joined` WITH (KAFKA_TOPIC='bars_joined', VALUE_FORMAT='AVRO', TIMESTAMP='`time`') AS
SELECT
  `o`.`_id` AS `_id`,
  `t`.`broker` AS `broker`,
  `t`.`symbol` AS `symbol`,
  `t`.`time` AS `time`,
  `o`.`price` AS `price`,
  `t`.`bid` AS `bid`,
  `t`.`size` AS `size`
FROM `ticks` `t`
  JOIN `bars_broker_quotes_by_key` `o` WITHIN 5 SECONDS GRACE PERIOD 1 DAYS ON `t`.`symbol` = `o`.`_id`
EMIT CHANGES;

-- Events within the sessions of their key.
CREATE STREAM IF NOT EXISTS `bars_in_session` WITH (KAFKA_TOPIC='bars_in_session', VALUE_FORMAT='AVRO') AS
SELECT
  `s`.`id` AS `id`,
  `t`.`broker` AS `broker`,
  `t`.`symbol` AS `symbol`,
  `t`.`time` AS `time`,
  `t`.`price` AS `price`,
  `t`.`bid` AS `bid`,
  `t`.`size` AS `size`
FROM `bars_joined` `t`
  JOIN `sessions_by_key` `s` ON REPLACE(REPLACE(`t`.`broker`, '%', '%25'), '|', '%7C') + '|' + `t`.`symbol` = `s`.`id`
WHERE ARRAY_LENGTH(FILTER(`s`.`intervals`, i => (i->`open` <= `t`.`time`) AND (`t`.`time` < i->`close`))) > 0
EMIT CHANGES;

-- Open Bar of 1m, with the partial aggregates that kandle needs to close and roll up.
CREATE TABLE IF NOT EXISTS `bars_1m_live` WITH (KAFKA_TOPIC='bars_1m_live', KEY_FORMAT='AVRO', VALUE_FORMAT='AVRO') AS
SELECT
  `broker`,
  `symbol`,
  FROM_UNIXTIME(WINDOWSTART) AS `start`,
  TOPK(0 - UNIX_TIMESTAMP(`time`), `price`, 1)[1]->`col0` AS `open`,
  MAX(`price`) AS `high`,
  MIN(`bid`) AS `low`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), CAST(`price` - `bid` AS DECIMAL(18,6)), 1)[1]->`col0` AS `close`,
  SUM(`size`) AS `volume`,
  MIN(UNIX_TIMESTAMP(`time`)) AS `_first_time`,
  MAX(UNIX_TIMESTAMP(`time`)) AS `_last_time`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `price`, 1)[1]->`col0` AS `_last_a0`,
  TOPK(FORMAT_TIMESTAMP(`time`, 'yyyyMMddHHmmssSSS') + LPAD(CAST(ROWOFFSET AS VARCHAR), 19, '0'), `bid`, 1)[1]->`col0` AS `_last_a1`
FROM `bars_in_session`
WINDOW TUMBLING (SIZE 1 MINUTES, RETENTION 7 DAYS, GRACE PERIOD 6 DAYS)
GROUP BY `broker`, `symbol`
EMIT CHANGES;
