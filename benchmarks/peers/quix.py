"""One-minute bars with Quix Streams, run by the interpreter of its own environment: brokers, registry, folder, guarantee.

Its defaults (state in RocksDB and in changelog topics, a checkpoint every five seconds), its Avro deserializer; bars leave as
JSON. Its state cannot hold decimals, so prices are floats.
"""

import sys
from datetime import timedelta

from quixstreams import Application
from quixstreams.dataframe.windows import First, Last, Max, Min, Sum
from quixstreams.models.serializers.avro import AvroDeserializer
from quixstreams.models.serializers.schema_registry import SchemaRegistryClientConfig


def event_time(value, headers, timestamp, kind):  # type: ignore[no-untyped-def]
    return int(value["time"].timestamp() * 1000)


def plain(value):  # type: ignore[no-untyped-def]
    return {"price": float(value["price"]), "size": value["size"]}


def main(brokers: str, registry: str, folder: str, guarantee: str) -> None:
    app = Application(
        brokers,
        consumer_group=f"quix-{guarantee}",
        auto_offset_reset="earliest",
        state_dir=folder,
        processing_guarantee=guarantee,
        loglevel="WARNING",
    )
    deserializer = AvroDeserializer(schema_registry_client_config=SchemaRegistryClientConfig(url=registry))
    ticks = app.topic("ticks", key_deserializer="bytes", value_deserializer=deserializer, timestamp_extractor=event_time)
    bars = app.topic(f"bars_quix_{guarantee}", key_serializer="bytes", value_serializer="json")
    window = app.dataframe(ticks).apply(plain).tumbling_window(timedelta(minutes=1), grace_ms=timedelta(seconds=2))
    bar = window.agg(first=First("price"), highest=Max("price"), lowest=Min("price"), last=Last("price"), total=Sum("size"))
    bar.final().to_topic(bars)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
