"""The choice of adapters: which log, state store and ksqlDB the options ask for.

Nothing outside of this package names an adapter. What an extra brings is only loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kandle.context.options import Options
from kandle.log.embedded.database import log_file
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.embedded.repair import Repair, repair
from kandle.log.port import Log
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.store.port import Store
from kandle.time.clock import Clock

if TYPE_CHECKING:
    from kandle.ksqldb.client import KsqlClient

__all__ = ["EmbeddedLog", "Repair", "embedded_log", "ksql_client", "log_file", "log_of", "repair", "store_opener"]


def log_of(options: Options, clock: Clock, entities: Iterable[EntityModel] = (), plans: Sequence[Plan] = ()) -> Log:
    """Open the log that the options name.

    Args:
        options: The options of the context.
        clock: The clock of the context.
        entities: The entities whose topics are read or written; on a cluster they say how records are bytes.
        plans: The plans of the queries; on a cluster they say the same of the topics of queries.

    Returns:
        The log, open.
    """
    if options.log.kind == "kafka":
        from kandle.context.kafka import declarations, kafka_log

        return kafka_log(options, clock, declarations(entities, plans, options.engine))
    return EmbeddedLog(options.log.path, clock, options.log.durability)


def embedded_log(folder: Path | None, clock: Clock) -> EmbeddedLog:
    """Open a log in a folder, or in memory.

    Args:
        folder: The folder; None keeps the log in memory.
        clock: The clock that times of records come from.

    Returns:
        The log, open.
    """
    return EmbeddedLog(folder, clock)


def store_opener(options: Options, instance: str) -> Callable[[str], Store] | None:
    """Return what opens the local copy of the state of a query.

    Args:
        options: The options of the context.
        instance: The name of the process, as its copies are its own.

    Returns:
        A function that opens the store for a changelog topic; None if the state is kept in memory and in the log only.
    """
    if options.state.store != "rocksdb":
        return None
    folder = options.state.path if options.state.path is not None else options.log.path / "state"

    def open_store(changelog: str) -> Store:
        from kandle.store.rocks import RocksStore

        return RocksStore(folder / instance / changelog)

    return open_store


def ksql_client(options: Options) -> KsqlClient:
    """Return a client of the ksqlDB of the options, to be used by `async with`."""
    from kandle.context.ksqldb import ksql_settings
    from kandle.ksqldb.client import KsqlClient

    return KsqlClient(ksql_settings(options))
