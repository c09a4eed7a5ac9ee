"""Cases of the catalogue: queries with their entities, and the scripts made from them."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kandle.errors import QueryError
from kandle.ksql.program import ScriptRole
from kandle.ksql.script import Script, script
from kandle.model.entity import EntityModel, entity_model
from kandle.query.query import QueryModel
from kandle.query.stages import Query, build


@dataclass(frozen=True)
class Case:
    """One query with its entities, the last of which it makes; `refused` is why role "all" refuses it, if it does."""

    name: str
    declare: Callable[[Query], Any]
    entities: tuple[type, ...]
    refused: str = ""

    @property
    def title(self) -> str:
        return inspect.getdoc(self.declare) or ""

    @property
    def text(self) -> str:
        """The query as it is written."""
        lines = textwrap.dedent(inspect.getsource(self.declare)).splitlines()
        begin = next(number for number, line in enumerate(lines) if line.strip().startswith("return"))
        text = textwrap.dedent("\n".join(lines[begin:])).removeprefix("return ")
        return textwrap.dedent(text.removeprefix("(").removesuffix(")").strip("\n")) if text.startswith("(") else text

    @property
    def models(self) -> list[EntityModel]:
        return [entity_model(cls) for cls in self.entities]

    @property
    def query(self) -> QueryModel:
        query: QueryModel = build(self.models[-1], self.declare)
        return query

    @property
    def roles(self) -> list[ScriptRole]:
        """The roles in which the case can run and whose scripts differ."""
        return [ScriptRole.LIVE] if self.refused or self.query.window is None else [ScriptRole.LIVE, ScriptRole.ALL]

    @property
    def refused_text(self) -> str:
        """Why the case is refused in role "all"."""
        try:
            self.script(ScriptRole.ALL)
        except QueryError as error:
            return str(error)
        raise AssertionError(f"{self.name} is not refused")

    def script(self, role: ScriptRole) -> Script:
        return script(self.models, [self.query], role)


DECLARED: list[Case] = []
"""Cases in the order in which their modules are imported."""


def case(*entities: type, refused: str = "") -> Callable[[Callable[[Query], Any]], Callable[[Query], Any]]:
    """Put a query into the catalogue under the name of its function."""

    def add(declare: Callable[[Query], Any]) -> Callable[[Query], Any]:
        DECLARED.append(Case(declare.__name__, declare, entities, refused))
        return declare

    return add


def model(target: type, declare: Callable[[Query], Any]) -> QueryModel:
    """Return the query that makes an entity."""
    query: QueryModel = build(entity_model(target), declare)
    return query


def lots(q: Any) -> Any:
    """Add windows of a minute and the group key `symbol` to a query over trades."""
    return q.tumbling(lambda t: t.time, minutes=1).group_by(lambda t: t.symbol)
