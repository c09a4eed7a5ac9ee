"""Settings of one topic, as configuration gives them in place of those that follow from the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cleanup = Literal["delete", "compact", "compact,delete"]
"""What happens to old records: by their age and size, by newer ones of the same key, or both."""

FOREVER = -1
"""The retention of what is never removed because of its age."""


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """How a topic is created; None leaves a setting as the model has it.

    Attributes:
        partitions: The number of partitions.
        replication: The number of copies on a cluster.
        retention: How long records are kept, in microseconds, or `FOREVER`.
        retention_bytes: How many bytes of a partition are kept, or `FOREVER`.
        cleanup: What happens to old records.
        configs: Further settings of the brokers, by name.
        create: Whether kandle may create the topic; if not, somebody else has to.
        origin: Where the settings were given, to start a message with.
    """

    partitions: int | None = None
    replication: int | None = None
    retention: int | None = None
    retention_bytes: int | None = None
    cleanup: Cleanup | None = None
    configs: tuple[tuple[str, str], ...] = ()
    create: bool | None = None
    origin: str = ""


UNCHANGED = TopicSettings()
"""Settings that leave a topic as the model has it."""
