"""The choice of adapters: which log, state store and ksqlDB the options ask for.

Nothing outside of this package names an adapter. What an extra brings is only loaded when it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kandle.context.options import Options
from kandle.errors import MissingExtraError
from kandle.log.embedded.database import log_file
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.embedded.repair import Repair, repair
from kandle.log.port import Log
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan
from kandle.plan.query_topics import contents_of
from kandle.store.memory import MemoryStore
from kandle.store.port import Store
from kandle.time.clock import Clock

if TYPE_CHECKING:
    from kandle.ksqldb.client import KsqlClient

__all__ = [
    "EmbeddedLog",
    "Repair",
    "embedded_log",
    "ksql_client",
    "log_file",
    "log_of",
    "memory_store",
    "open_copy",
    "repair",
    "store_opener",
]

logger = logging.getLogger("kandle")


def log_of(options: Options, clock: Clock, entities: Iterable[EntityModel] = (), plans: Sequence[Plan] = ()) -> Log:
    """Open the log that the options name.

    Args:
        options: The options of the context.
        clock: The clock of the context.
        entities: The entities whose topics are read or written: which columns readers expect, and on a cluster how records are
            bytes.
        plans: The plans of the queries, which say the same of the topics of queries.

    Returns:
        The log, open.
    """
    if options.log.kind == "kafka":
        from kandle.context.kafka import declarations, kafka_log

        return kafka_log(options, clock, declarations(entities, plans, options))
    return EmbeddedLog(options.log.path, clock, options.log.durability, declared=_entities_of_topics(entities, plans))


def _entities_of_topics(entities: Iterable[EntityModel], plans: Sequence[Plan]) -> dict[str, EntityModel]:
    """Return the entities of topics by name: who reads a topic that lacks one of their nullable columns gets NULL."""
    declared = {version.topic: version for entity in entities for version in (*entity.former, entity)}
    for plan in plans:
        declared |= {topic: content.entity for topic, content in contents_of(plan).items() if content.entity is not None}
    return declared


def embedded_log(
    folder: Path | None, clock: Clock, entities: Iterable[EntityModel] = (), plans: Sequence[Plan] = ()
) -> EmbeddedLog:
    """Open a log in a folder, or in memory.

    Args:
        folder: The folder; None keeps the log in memory.
        clock: The clock that times of records come from.
        entities: The entities whose topics are read or written.
        plans: The plans of the queries.

    Returns:
        The log, open.
    """
    return EmbeddedLog(folder, clock, declared=_entities_of_topics(entities, plans))


def store_opener(options: Options, service: str) -> Callable[[str], Store] | None:
    """Return what opens the local copy of the state of a query.

    Args:
        options: The options of the context.
        service: The name of the service, as its copies are its own.

    Returns:
        A function that opens the store for a changelog topic; None if the state is kept in memory and in the log only.
    """
    if options.state.store != "rocksdb":
        return None
    folder = options.state.path if options.state.path is not None else options.log.path / "state"

    def open_store(changelog: str) -> Store:
        from kandle.store.rocks import RocksStore, open_free

        if options.runtime.instance is not None:
            return RocksStore(folder / f"{service}-{options.runtime.instance}" / changelog)
        return open_free(folder / service / changelog)

    return open_store


def memory_store() -> Store:
    """Return a store that ends with its process."""
    return MemoryStore()


def open_copy(options: Options, service: str, topic: str, *, is_large: bool) -> Store | None:
    """Open the store of a copy of a topic that is read on this machine.

    Args:
        options: The options of the context.
        service: The name of the service, as its copies are its own.
        topic: The name of the topic.
        is_large: Whether the copy may be too large for memory.

    Returns:
        A store in the folder of copies; one in memory where the options say so, RocksDB is not installed, or the folder cannot
        be written. None in place of one in memory for what may be too large, unless the options ask for it.
    """
    folder = options.copies.path if options.copies.path is not None else options.log.path / "copies"
    if options.copies.store != "memory":
        try:
            from kandle.store.rocks import open_free

            folder.mkdir(parents=True, exist_ok=True)
            return open_free(folder / service / topic)
        except (MissingExtraError, PermissionError, OSError) as error:
            if options.copies.store == "rocksdb":
                raise
            if is_large:
                logger.info("topic %s is read anew with each read, since there is no place for a copy: %s", topic, error)
                return None
            logger.info("the copy of topic %s is kept in memory, and read anew at each start: %s", topic, error)
    return MemoryStore()


def ksql_client(options: Options) -> KsqlClient:
    """Return a client of the ksqlDB of the options, to be used by `async with`."""
    from kandle.context.ksqldb import ksql_settings
    from kandle.ksqldb.client import KsqlClient

    return KsqlClient(ksql_settings(options))
