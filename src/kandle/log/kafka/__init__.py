"""The log on a cluster of Apache Kafka (the extra `kandle[kafka]`)."""

from kandle.errors import OptionalImport

with OptionalImport("The Kafka log", "kafka"):
    import confluent_kafka  # noqa: F401, its modules import it
