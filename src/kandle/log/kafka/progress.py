"""How far the groups of other programs have come, with topics that kandle did not make."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kandle.errors import UnknownTopicError
from kandle.log.kafka.admin import Admin
from kandle.log.kafka.positions import Positions
from kandle.log.port import TopicPartition

INNER = "-repartition"


class KafkaProgress:
    """Positions on a cluster."""

    def __init__(self, admin: Admin, positions: Positions) -> None:
        self._admin = admin
        self._positions = positions

    def bounds(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """First and next offset of each partition, open transactions included."""
        return self._admin.bounds([place for topic in topics for place in self._places(topic)]) if topics else {}

    def _places(self, topic: str) -> list[TopicPartition]:
        state = self._admin.state(topic)
        if state is None:
            raise UnknownTopicError(f"there is no topic {topic!r} on the brokers, though a query of ksqlDB reads it")
        return [TopicPartition(topic, number) for number in range(state[0])]

    def committed(self, group: str, places: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The group's next offset of those partitions that it has committed one of."""
        return {place: at for place, (at, _) in self._positions.committed(group, places).items()}

    def inner_topics(self, group: str) -> list[str]:
        """The topics in which a query brings records to the partitions of other keys: their names begin with its group's."""
        return sorted(topic for topic in self._admin.partitions() if topic.startswith(f"{group}-") and topic.endswith(INNER))
