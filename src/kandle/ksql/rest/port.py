"""What others need of a ksqlDB to manage its streams, tables and queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from kandle.ksql.rest.results import Description, Query, Result, Source


class Ksql(Protocol):
    """A server that carries out statements."""

    async def execute(self, statements: str, properties: Mapping[str, object] | None = None) -> Sequence[Result]:
        """What each statement came to, once all are carried out."""

    async def streams(self) -> Sequence[Source]: ...

    async def tables(self) -> Sequence[Source]: ...

    async def queries(self) -> Sequence[Query]: ...

    async def describe(self, name: str) -> Description: ...

    async def terminate(self, query: str) -> None: ...
