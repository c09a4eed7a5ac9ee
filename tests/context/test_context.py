"""Contexts: sets, model building, validation, access."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle
from kandle import Context, EventSet, Key, ModelBuilder, Options, Period, TableSet, Timestamp
from kandle import functions as f
from kandle.context.sections import TopicOptions
from kandle.errors import KandleError, ModelError, QueryError, SchemaError, TimeframeError
from kandle.runtime.counters import QueryState


@kandle.stream("hits")
@dataclass(frozen=True)
class Hit:
    page: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]


@kandle.table("owners")
@dataclass(frozen=True)
class Owner:
    page: Annotated[str, Key(0)]
    name: str


@kandle.stream("pages", partitions=2)
@dataclass(frozen=True)
class Page:
    page: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    hits: int


def count(q: Any) -> Any:
    grouped = q.from_(Hit).tumbling(lambda h: h.at, minutes=(1, 5)).group_by(lambda h: h.page)
    return grouped.select(lambda h, w: Page(page=h.page, start=w.start, hits=f.count()))


class Site(Context):
    hits: EventSet[Hit]
    owners: TableSet[Owner]
    pages: EventSet[Page]
    title = "not a set"

    def on_model_creating(self, model: ModelBuilder) -> None:
        model.entity(Page).to_query(count).topic("counts").partitions(4)


def test_a_context_has_a_typed_set_for_every_annotation() -> None:
    with Site() as site:
        assert [each.entity.name for each in (site.hits, site.owners, site.pages)] == ["Hit", "Owner", "Page"]
        assert type(site.owners) is TableSet
        assert site.set(Page, Period.minutes(5)).timeframe == Period.minutes(5)
        assert site.set(Page, "1m").timeframe == Period.minutes(1)


def test_a_context_is_an_async_context_manager_too() -> None:
    async def story() -> str:
        async with Site() as site:
            return site.hits.entity.topic

    assert asyncio.run(story()) == "hits"


def test_the_model_is_built_once() -> None:
    calls: list[str] = []

    class Counted(Context):
        hits: EventSet[Hit]

        def on_model_creating(self, model: ModelBuilder) -> None:
            calls.append("built")

    assert Counted.model() is Counted.model()
    assert calls == ["built"]


def test_settings_of_the_builder_and_of_the_options_reach_topics_and_query() -> None:
    assert Site.model().entities[Page].partitions == 4
    assert Site.model().queries[Page].target.topic == "counts"
    options = Options(topics={"counts": TopicOptions(partitions=8, retention="2d")})
    entity = Site(options).pages.entity
    assert (entity.partitions, entity.retention) == (8, 2 * 86_400 * 1_000_000)


def test_access_is_that_of_the_options() -> None:
    site = Site(Options(access="read_only"))
    assert site.hits.can_read
    assert not site.hits.can_write
    assert Site(Options(access="write_only")).hits.can_write


def test_an_unknown_entity_or_timeframe_is_named_with_the_valid_ones() -> None:
    site = Site()
    with pytest.raises(ModelError, match=r"Site has no set of int.*[Cc]hoose from: Hit, Owner, Page"):
        site.set(int)
    with pytest.raises(ModelError, match=r"Page has no bars of 1h; declared are 1m, 5m"):
        site.set(Page, Period.hours(1))
    with pytest.raises(ModelError, match=r"Hit has no query with a window, so there are no bars of it \(bars there are: Page\)"):
        site.set(Hit, "1m")


def test_wrong_arguments_are_told_what_to_write() -> None:
    site: Any = Site()
    with pytest.raises(ModelError, match=r"give the class of an entity, not the text 'Page'; choose from: Hit, Owner, Page"):
        site.set("Page")
    with pytest.raises(ModelError, match=r'Site\(\) takes options; to read a file write Site\.open\("kandle\.toml"\)'):
        Site("kandle.toml")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"Page is not a context: write kandle\.backfill\(Market, Page, ticks=\.\.\.\)"):
        kandle.backfill(Page, ticks=[])  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"kandle\.explain takes a plan: write Site\.explain\(\)"):
        kandle.explain(Site)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"write kandle\.explain\(kandle\.plan\(query\)\)"):
        kandle.explain(Site.model().queries[Page])  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"kandle\.plan takes a query"):
        kandle.plan(Site)  # type: ignore[arg-type]


def test_a_context_explains_itself_without_being_open() -> None:
    text = repr(Site.explain())
    assert text.startswith("Page <- Hit (topic hits)\n")
    for topic in ("hits", "counts_1m_final", "counts_5m_live", "counts_hb_1m", "counts_changelog"):
        assert f" {topic} " in text

    class Plain(Context):
        hits: EventSet[Hit]

    with pytest.raises(ModelError, match="Plain has no query with a window over time; give an entity one with to_query"):
        Plain.explain()


def built(annotations: dict[str, Any], creating: Any = None, options: Options | None = None) -> Context:
    body: dict[str, Any] = {"__annotations__": annotations}
    if creating is not None:
        body["on_model_creating"] = creating
    cls: type[Context] = type("Wrong", (Context,), body)
    return cls(options or Options())


def test_a_set_must_be_that_of_its_kind_of_entity() -> None:
    with pytest.raises(ModelError, match=r"Wrong\.owners: Owner is a table; write TableSet\[Owner\]"):
        built({"owners": EventSet[Owner]})


def test_an_entity_with_a_query_needs_a_set() -> None:
    with pytest.raises(ModelError, match=r"Wrong has no set of Page; declare `name: EventSet\[Page\]`"):
        built({"hits": EventSet[Hit]}, lambda self, model: model.entity(Page).to_query(count))


def test_an_entity_has_one_query() -> None:
    with pytest.raises(ModelError, match="Page has a query already"):
        built(
            {"hits": EventSet[Hit], "pages": EventSet[Page]},
            lambda self, model: model.entity(Page).to_query(count).to_query(count),
        )


def test_an_error_in_a_query_names_its_entity() -> None:
    def wrong(self: Context, model: ModelBuilder) -> None:
        model.entity(Page).to_query(lambda q: q.from_(Hit).where(lambda h: h.page and h.at))  # type: ignore[arg-type,return-value]

    with pytest.raises(QueryError, match=r"query of Page: where: Hit\.page: "):
        built({"hits": EventSet[Hit], "pages": EventSet[Page]}, wrong)


@kandle.stream("hits")
@dataclass(frozen=True)
class Double:
    page: str
    at: Annotated[datetime, Timestamp()]


@kandle.table("loose")
@dataclass(frozen=True)
class Loose:
    page: str


@kandle.stream("timeless")
@dataclass(frozen=True)
class Timeless:
    page: str


DOUBTS: list[tuple[dict[str, Any], Any, str]] = [
    ({"hits": EventSet[Hit], "again": EventSet[Double]}, None, "Double and Hit have the same topic 'hits'"),
    ({"loose": TableSet[Loose]}, None, "Loose is a table without a key"),
    ({"timeless": EventSet[Timeless]}, None, "Timeless is a stream without an event time"),
    (
        {"pages": EventSet[Page]},
        lambda self, model: model.entity(Page).to_query(count),
        "reads Hit, for which the context has no set",
    ),
]


@pytest.mark.parametrize("name", ["explain", "health", "ksql", "options", "problem", "set", "time_bucket"])
def test_a_set_cannot_have_the_name_of_something_of_the_context(name: str) -> None:
    with pytest.raises(ModelError, match=rf"Wrong\.{name}: every context has a '{name}' of its own; give the set another name"):
        built({name: EventSet[Hit]})


def test_a_wrong_duration_in_a_query_names_its_entity() -> None:
    def wrong(self: Context, model: ModelBuilder) -> None:
        model.entity(Page).to_query(lambda q: q.from_(Hit).tumbling(lambda h: h.at, minutes=1, grace="half"))  # type: ignore[arg-type,return-value]

    with pytest.raises(TimeframeError, match=r"query of Page: 'half' is not a duration"):
        built({"hits": EventSet[Hit], "pages": EventSet[Page]}, wrong)


@pytest.mark.parametrize(("annotations", "creating", "message"), DOUBTS)
def test_what_is_doubtful_is_an_error_or_by_choice_a_warning(annotations: Any, creating: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        built(annotations, creating)
    with pytest.warns(UserWarning, match=message):
        built(annotations, creating, Options(validation="relaxed"))


def test_an_unknown_topic_in_the_options_is_named() -> None:
    with pytest.raises(KandleError, match=r"topics\.hitz: Site has no such topic; did you mean 'hits'\?"):
        Site(Options(topics={"hitz": TopicOptions(partitions=2)}))


def test_topics_that_are_kept_otherwise_than_declared_are_refused_where_the_options_say_so(tmp_path: Path) -> None:
    log = {"path": tmp_path}
    with Site.open(log=log, access="write_only"):
        pass
    kept: dict[str, Any] = {"log": log | {"differences": "refuse"}, "topics": {"hits": {"retention": "1d"}}}
    with pytest.raises(SchemaError, match=r"topic hits: retention is unlimited, 1d is declared; change the topic"):
        Site.open(access="write_only", **kept).__enter__()


@pytest.mark.parametrize("settings", [{"access": "read_only"}, {"access": "write_only"}, {"runtime": {"enabled": False}}])
def test_the_health_of_a_context_that_runs_no_queries_says_so_and_is_good(tmp_path: Path, settings: dict[str, Any]) -> None:
    log = {"path": tmp_path / "data"}
    with Site(Options(access="write_only", log=log)):
        """Create the log."""
    with Site(Options(log=log, **settings)) as site:
        health = site.health()
        assert (health.state, health.is_healthy, health.queries) == (QueryState.NO_QUERIES, True, ())
        expected = {
            "instance": health.instance,
            "state": "no queries",
            "queries": [],
            "dead_letters": {},
            "skipped": {},
            "unreadable": {},
            "dual_write_mismatch": 0,
        }
        assert health.to_dict() == expected
        assert site.problem is None
