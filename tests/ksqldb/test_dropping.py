"""Dropping: dependents first, queries terminated, nothing that another stream or table needs."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from kandle.errors import KsqlError
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.dropping import TopicHandling, drop
from tests.ksqldb.holding import Holding
from tests.ksqldb.serving import Served
from tests.ksqldb.talking import told


def held(**more: Any) -> Holding:
    kinds = {"Ticks": "STREAM", "Beats": "STREAM", "Union": "STREAM", "Bars": "TABLE", "Others": "STREAM"}
    return Holding(kinds, {"Union": ("Ticks",), "Bars": ("Union",)}, {"INSERTQUERY_7": ("Beats", "Union")}, **more)


def dropped(holding: Holding, *names: str, topics: TopicHandling = TopicHandling.KEEP) -> list[str]:
    async def story(client: KsqlClient, served: Served) -> None:
        await drop(client, names, topics)

    told(holding, story)
    return holding.done


@pytest.mark.parametrize("names", list(permutations(("Ticks", "Beats", "Union", "Bars"))))
def test_dependents_are_dropped_first_whatever_the_order_of_the_names(names: tuple[str, ...]) -> None:
    holding = held()
    done = dropped(holding, *names)
    assert done[0] == "TERMINATE INSERTQUERY_7;"
    assert done.index("DROP TABLE `Bars`;") < done.index("DROP STREAM `Union`;") < done.index("DROP STREAM `Ticks`;")
    assert holding.kinds == {"Others": "STREAM"}


def test_names_that_do_not_exist_are_ignored() -> None:
    assert dropped(held(), "Nope", "Bars", "Bars") == ["DROP TABLE `Bars`;"]
    assert dropped(held()) == []


def test_the_source_of_an_insert_is_dropped_without_its_target() -> None:
    assert dropped(held(), "Beats") == ["TERMINATE INSERTQUERY_7;", "DROP STREAM `Beats`;"]


def test_nothing_is_dropped_that_another_table_depends_on() -> None:
    holding = held()
    with pytest.raises(KsqlError, match="Union cannot be dropped, since Bars depends on it; drop Bars too, or first"):
        dropped(holding, "Union", "Ticks")
    assert holding.done == []


def test_a_topic_that_several_share_is_deleted_with_the_last_of_them() -> None:
    done = dropped(held(topics={"Others": "bars"}), "Bars", "Others", topics=TopicHandling.DELETE)
    assert len(done) == 2
    assert "DELETE TOPIC" not in done[0] and done[1].endswith(" DELETE TOPIC;")


def test_a_topic_that_another_stream_uses_is_not_deleted() -> None:
    holding = held(topics={"Others": "bars"})
    with pytest.raises(
        KsqlError, match="topic bars of Bars cannot be deleted, since Others uses it too; drop Others too, or keep the topics"
    ):
        dropped(holding, "Bars", topics=TopicHandling.DELETE)
    assert holding.done == []
    assert dropped(holding, "Bars") == ["DROP TABLE `Bars`;"]
