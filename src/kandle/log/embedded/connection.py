"""One connection to an embedded log: its database and what works with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kandle.forks import keep_in_children
from kandle.log.embedded.batches import BatchTable
from kandle.log.embedded.catalog import NO_ENTITIES, Catalog
from kandle.log.embedded.database import Database, Durability
from kandle.log.embedded.notification import Notifier, Waiting
from kandle.model.entity import EntityModel
from kandle.time.clock import Clock


class Connection:
    """The parts of one connection, which threads take turns to use.

    Args:
        path: The folder of the log; None keeps everything in memory.
        clock: Gives timestamps of records, and the time of leases.
        durability: See `Database`.
        waiting: See `Notifier`.
        declared: See `Catalog`.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Clock,
        durability: Durability,
        waiting: Waiting | None,
        declared: Mapping[str, EntityModel] = NO_ENTITIES,
    ) -> None:
        self.clock = clock
        self.database = Database(path, durability)
        self.catalog = Catalog(self.database, declared)
        self.batches = BatchTable(self.database, self.catalog, clock)
        self.notifier = Notifier(self.database, waiting)
        keep_in_children(self)

    def close(self) -> None:
        """Close the waiters of this connection and its database."""
        self.notifier.close()
        self.database.close()
