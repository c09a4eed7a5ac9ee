"""The schema registry port: which schema a number in a message stands for; its adapters are `registry_embedded` and
`kandle.log.kafka.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from kandle.serde.schema import Side


class Compatibility(Enum):
    """What a new schema of a subject must be able to do; the names are those of the Confluent Schema Registry.

    BACKWARD reads what the one before wrote, FORWARD is read by it, FULL is both; TRANSITIVE means all that were before.
    """

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema of a subject, as it was registered; versions count from 1."""

    subject: str
    version: int
    number: int
    schema: str


class Registry(Protocol):
    """Schemas by number and by subject. UnavailableError if it cannot be reached."""

    def register(self, subject: str, schema: str) -> int:
        """The number of the schema, new or not; SchemaError names what is not compatible with those before."""

    def schema(self, number: int) -> str | None:
        """The schema of that number; None if there is none."""

    def latest(self, subject: str) -> Registered | None:
        """The newest schema of the subject; None if it has none."""

    def differences(self, subject: str, schema: str) -> tuple[str, ...]:
        """What makes the schema incompatible with those of the subject, in words; nothing if it could be registered."""

    def close(self) -> None:
        """Let go of connections."""


def subject_of(topic: str, side: Side) -> str:
    """`ticks-key` or `ticks-value`."""
    return f"{topic}-{side}"
