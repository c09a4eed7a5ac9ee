"""Positions of the group in which older versions of kandle ran a query.

Its name began with that of the context, or with `consumer.group`, so that two contexts over the same bars made every final twice.
A query whose own group has no position in a partition yet goes on from the former group's, once nobody works there any more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from kandle.errors import AccessError
from kandle.log.port import Log, TopicPartition
from kandle.plan.query_topics import QueryTopics

logger = logging.getLogger("kandle")


class FormerGroup:
    """The former group of a query.

    Args:
        log: The log of the groups.
        topics: The topics of the query.
        name: The name of the former group.
    """

    def __init__(self, log: Log, topics: QueryTopics, name: str) -> None:
        self._log = log
        self._topics = topics
        self.name = name
        self._is_waiting = False

    def positions(self) -> Mapping[TopicPartition, int] | None:
        """Return where the query goes on in partitions without a position of its own; None while the former group has members."""
        names = [self._topics.events, *([self._topics.source] if self._topics.is_repartitioned else [])]
        if all(len(self._log.committed(self._topics.group, name)) == len(self._log.ends(name)) for name in names):
            return {}
        try:
            positions = {
                TopicPartition(name, number): offset
                for name in self._topics.read
                for number, offset in self._log.committed(self.name, name).items()
            }
        except AccessError:
            # Who may not read this group has not run the query in it. Where somebody else has, its state says so.
            return {}
        if not positions or not self._log.has_members(self.name):
            return positions
        if not self._is_waiting:
            logger.warning("%s", self.waiting)
        self._is_waiting = True
        return None

    @property
    def waiting(self) -> str:
        """What is waited for, in words."""
        name = self._topics.plan.query.target.name
        return (
            f"{name} waits: processes of an older version of kandle still run it in the group {self.name}; once they are "
            f"stopped, the group {self._topics.group} goes on where they stood"
        )
