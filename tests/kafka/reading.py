"""A reader of Kafka that knows nothing of kandle: the usual client with the usual deserializer."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

Row = dict[str, Any]


def everything(bootstrap: str, topic: str) -> list[Any]:
    """Return all committed messages of a topic, partition after partition."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": uuid4().hex,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
    }
    client = Consumer(settings)
    count = len(client.list_topics(topic).topics[topic].partitions)
    client.assign([TopicPartition(topic, number, 0) for number in range(count)])
    messages: list[Any] = []
    ended: set[int] = set()
    while len(ended) < count:
        for message in client.consume(10_000, 1):
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF and (partition := message.partition()) is not None:
                ended.add(partition)
            else:
                raise AssertionError(error)
    client.close()
    return sorted(messages, key=lambda message: (message.partition(), message.offset()))


def avro_rows(bootstrap: str, topic: str, registry: str) -> list[Row]:
    """Return keys and values of a topic in one row each, by the schemas of a registry."""
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry}))
    key, value = (SerializationContext(topic, field) for field in (MessageField.KEY, MessageField.VALUE))
    messages = everything(bootstrap, topic)
    return [deserialize(message.key(), key) | deserialize(message.value(), value) for message in messages]
