"""Declarations of bars that ksqlDB aggregates: they cannot be replaced in place, and the message says what to do."""

from __future__ import annotations

import pytest

from kandle.errors import StateError
from kandle.log.embedded.log import EmbeddedLog
from kandle.plan.declaration import QueryDeclaration, declaration
from kandle.plan.plan import Plan, plan
from kandle.runtime.generations import QueryGenerations, check_declarations
from kandle.time.clock import ManualClock
from tests.runtime.building import t
from tests.runtime.declarations import bars_market


def declared(minutes: int) -> tuple[Plan, QueryDeclaration]:
    """Return a query on ksqlDB with bars of so many minutes."""
    [query] = bars_market(minutes=minutes).model().queries.values()
    return plan(query), declaration(plan(query), "ksqldb")


@pytest.mark.parametrize(
    ("replaces", "refused"), [((), "are declared otherwise"), (("bars",), "cannot be replaced where ksqlDB")]
)
def test_a_changed_declaration_on_ksqldb_needs_another_topic(replaces: tuple[str, ...], refused: str) -> None:
    log = EmbeddedLog(None, ManualClock(t("14:30")))
    check_declarations(log, [declared(1)], "one", ())
    QueryGenerations(log, *declared(1)).join("one")
    check_declarations(log, [declared(1)], "one", replaces)
    with pytest.raises(StateError, match=rf"{refused}.*give Bar another topic; its bars are made of all events.*--drop"):
        check_declarations(log, [declared(5)], "two", replaces)
    log.close()
