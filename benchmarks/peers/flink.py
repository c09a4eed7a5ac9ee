"""One-minute bars with Flink SQL, run by the interpreter of its own environment: brokers, registry, folder of connectors.

Parallelism 1, object reuse, state on the heap, a checkpoint every second; bars leave as they close (at least once), as JSON.
"""

import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

SETTINGS = {
    "parallelism.default": "1",
    "pipeline.object-reuse": "true",
    "execution.checkpointing.interval": "1 s",
    "taskmanager.memory.process.size": "3g",
}

TICKS = """
CREATE TABLE ticks (
    venue STRING, name STRING, `time` TIMESTAMP(3), price DECIMAL(18, 6), size BIGINT,
    WATERMARK FOR `time` AS `time` - INTERVAL '2' SECOND
) WITH (
    'connector' = 'kafka', 'topic' = 'ticks', 'properties.bootstrap.servers' = '{brokers}',
    'scan.startup.mode' = 'earliest-offset', 'properties.group.id' = 'flink',
    'key.format' = 'avro-confluent', 'key.avro-confluent.url' = '{registry}', 'key.fields' = 'venue;name',
    'value.format' = 'avro-confluent', 'value.avro-confluent.url' = '{registry}', 'value.fields-include' = 'EXCEPT_KEY'
)
"""

BARS = """
CREATE TABLE bars (
    venue STRING, name STRING, `start` TIMESTAMP(3), `first` DECIMAL(18, 6), highest DECIMAL(18, 6), lowest DECIMAL(18, 6),
    `last` DECIMAL(18, 6), total BIGINT
) WITH ('connector' = 'kafka', 'topic' = 'bars_flink', 'properties.bootstrap.servers' = '{brokers}', 'format' = 'json')
"""

QUERY = """
INSERT INTO bars
SELECT venue, name, window_start, FIRST_VALUE(price), MAX(price), MIN(price), LAST_VALUE(price), SUM(size)
FROM TABLE(TUMBLE(TABLE ticks, DESCRIPTOR(`time`), INTERVAL '1' MINUTE))
GROUP BY venue, name, window_start, window_end
"""


def main(brokers: str, registry: str, connectors: str) -> None:
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    jars = ";".join(path.as_uri() for path in sorted(Path(connectors).glob("*.jar")))
    for name, value in {**SETTINGS, "pipeline.jars": jars}.items():
        environment.get_config().set(name, value)
    for table in (TICKS, BARS):
        environment.execute_sql(table.format(brokers=brokers, registry=registry))
    environment.execute_sql(QUERY).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
