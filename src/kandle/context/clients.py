"""Properties of the Kafka client library in options: those that kandle sets itself are refused, and how others are spelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OWNED: dict[str, str] = {
    "bootstrap.servers": "set kafka.bootstrap",
    "metadata.broker.list": "set kafka.bootstrap",
    "group.id": "set consumer.group, with which the names of all groups of readers begin",
    "group.instance.id": "set runtime.instance",
    "group.protocol": "set kafka.protocol",
    "auto.offset.reset": "set consumer.reset",
    "transactional.id": "leave it out",
    "transaction.timeout.ms": "set kafka.transaction",
    "enable.auto.commit": "leave it out: a message is done when its handler is done",
    "enable.auto.offset.store": "leave it out: a message is done when its handler is done",
    "enable.partition.eof": "leave it out",
    "isolation.level": "leave it out: readers see what is committed",
    "enable.idempotence": "leave it out: records are written once",
}
"""Properties that kandle sets itself, since its guarantees depend on them, and what to do instead."""

IN_JSON = 'KANDLE_KAFKA__PROPERTIES=\'{{"{name}": "..."}}\''


def checked_properties(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check the names of properties of Kafka clients.

    Args:
        properties: The properties by name.

    Returns:
        The properties as they were given.

    Raises:
        ValueError: kandle sets a property itself, or its name is spelled as in a variable of the environment.
    """
    for name in properties:
        dotted = name.replace("_", ".")
        if dotted in OWNED:
            raise ValueError(f"kandle sets {dotted} itself; {OWNED[dotted]}")
        # All but ssl_key and its like are spelled with dots, which a variable of the environment cannot have in its name.
        if "_" in name and not name.startswith("ssl_"):
            raise ValueError(
                f"the client library has no property {name!r}; its names have dots: {dotted!r}. "
                f"In the environment write them as JSON, such as {IN_JSON.format(name=dotted)}"
            )
    return properties
