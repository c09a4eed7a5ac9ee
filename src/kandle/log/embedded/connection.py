"""One connection to an embedded log: its database and what works with it."""

from __future__ import annotations

from pathlib import Path

from kandle.forks import keep_in_children
from kandle.log.embedded.batches import BatchTable
from kandle.log.embedded.catalog import Catalog
from kandle.log.embedded.database import Database, Durability
from kandle.log.embedded.notification import Notifier, Waiting
from kandle.time.clock import Clock


class Connection:
    """The parts of one connection, which threads take turns to use.

    Args:
        path: The folder of the log; None keeps everything in memory.
        clock: Gives timestamps of records, and the time of leases.
        durability: See `Database`.
        waiting: See `Notifier`.
    """

    def __init__(self, path: Path | None, clock: Clock, durability: Durability, waiting: Waiting | None) -> None:
        self.clock = clock
        self.database = Database(path, durability)
        self.catalog = Catalog(self.database)
        self.batches = BatchTable(self.database, self.catalog, clock)
        self.notifier = Notifier(self.database, waiting)
        keep_in_children(self)

    def close(self) -> None:
        """Close the waiters of this connection and its database."""
        self.notifier.close()
        self.database.close()
