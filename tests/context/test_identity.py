"""Who makes the same bars: contexts of any name share the work, a changed declaration is refused or replaces the former one.

Each context here is a process of its own as far as it matters: a connection, a clock moved by hand, a membership in the group.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest

import kandle
import kandle.testing
from kandle import Context, EventSet, Key, Timestamp
from kandle import functions as f
from kandle.cli.log_checks import declaration_findings
from kandle.context.context import state_of
from kandle.errors import OptionsError, StateError
from kandle.plan.declaration import declaration
from kandle.plan.plan import plan as plan_of
from kandle.plan.topics import DECLARATIONS
from kandle.runtime.resuming import LastEvent
from kandle.sets.reading import rows
from kandle.time.timeframe import SECOND, to_instant

OPENING = datetime(2024, 3, 8, 14, 27, tzinfo=UTC)


@kandle.stream("trips", partitions=4)
@dataclass(frozen=True)
class Trip:
    line: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    riders: int


@kandle.stream("loads")
@dataclass(frozen=True)
class Load:
    line: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    riders: int


def declared(name: str = "Tram", total: Any = f.sum, **window: Any) -> Any:
    """Return a context over the same topics, whatever its name."""

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(Load).to_query(
            lambda q: (
                q.from_(Trip)
                .tumbling(lambda t: t.time, **({"minutes": 1} | window))
                .group_by(lambda t: t.line)
                .select(lambda t, w: Load(line=t.line, start=w.start, riders=total(t.riders)))
            )
        )

    sets = {"trips": EventSet[Trip], "loads": EventSet[Load]}
    return type(name, (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


def opened(cls: Any, folder: Path, start: datetime = OPENING, **options: Any) -> Any:
    return kandle.testing.context(cls, start, log={"path": folder}, **options)


LINES = [f"line {number}" for number in range(8)]


def ride(market: Any, at: datetime, lines: list[str] = LINES) -> None:
    market.trips.add_many([Trip(line, at, 1) for line in lines])


def move(until: datetime, *markets: Any) -> None:
    """Move the clocks of all processes on, a second at a time."""
    for now in range(min(market.clock.now() for market in markets), to_instant(until) + SECOND, SECOND):
        for market in markets:
            if market.clock.now() <= now:
                market.clock.set(now)


def minutes(market: Any, topic: str = "loads_1m_final") -> Counter[tuple[str, datetime]]:
    """Return how often each final stands in its topic."""
    frames = rows(state_of(market).log, topic)
    return Counter((line, start) for frame in frames for line, start in frame.select("line", "start").iter_rows())


def riders(market: Any, topic: str = "loads_1m_final") -> int:
    return sum(int(frame["riders"].sum()) for frame in rows(state_of(market).log, topic))


def partitions(market: Any) -> tuple[int, ...]:
    owned: tuple[int, ...] = market.health().queries[0].partitions
    return owned


def test_contexts_of_any_name_and_consumer_group_share_the_work(tmp_path: Path) -> None:
    other: dict[str, Any] = {"consumer": {"group": "reports"}}
    with opened(declared("Tram"), tmp_path) as first, opened(declared("Metro"), tmp_path, **other) as second:
        move(OPENING + timedelta(seconds=10), first, second)
        assert sorted(partitions(first) + partitions(second)) == [0, 1, 2, 3]
        assert len(partitions(first)) == len(partitions(second)) == 2
        for second_of in (15, 75, 135):
            move(OPENING + timedelta(seconds=second_of), first, second)
            ride(first, OPENING + timedelta(seconds=second_of))
        move(OPENING + timedelta(minutes=4), first, second)
        assert set(minutes(first).values()) == {1} and len(minutes(first)) == 4 * len(LINES)
        assert riders(second) == 3 * len(LINES)
        assert [market.health().queries[0].group for market in (first, second)] == ["kandle-loads"] * 2
        assert sum(market.health().queries[0].is_leader for market in (first, second)) == 1


def test_equal_names_of_two_services_do_not_replace_each_other(tmp_path: Path) -> None:
    one: dict[str, Any] = {"runtime": {"instance": "worker"}}
    with opened(declared("Tram"), tmp_path, **one) as first, opened(declared("Metro"), tmp_path, **one) as second:
        move(OPENING + timedelta(seconds=30), first, second)
        assert len(partitions(first)) == len(partitions(second)) == 2
    # Without a name, contexts of one process have names of their own.
    with opened(declared("Tram"), tmp_path) as first, opened(declared("Tram"), tmp_path) as second:
        move(OPENING + timedelta(seconds=60), first, second)
        assert len(partitions(first)) == len(partitions(second)) == 2


def test_when_one_of_two_services_ends_the_other_goes_on(tmp_path: Path) -> None:
    with opened(declared("Tram"), tmp_path) as first:
        with opened(declared("Metro"), tmp_path) as second:
            move(OPENING + timedelta(seconds=20), first, second)
            ride(second, OPENING + timedelta(seconds=20))
            move(OPENING + timedelta(seconds=80), first, second)
            ride(second, OPENING + timedelta(seconds=80))
        move(OPENING + timedelta(minutes=3), first)
        assert partitions(first) == (0, 1, 2, 3)
        assert set(minutes(first).values()) == {1} and riders(first) == 2 * len(LINES)


DIFFERENT = [
    ({"minutes": (1, 5)}, "timeframe 5m: none there, made from 1m, grace 0s here"),
    ({"grace": "2s"}, "timeframe 1m grace: 0s there, 2s here"),
    ({"total": f.max}, "field riders: f.sum(event.riders) there, f.max(event.riders) here"),
    ({"gaps": kandle.Gaps.SKIP}, "gaps: carry there, skip here"),
]


@pytest.mark.parametrize(("changed", "words"), DIFFERENT)
def test_another_declaration_is_refused_before_it_takes_anything(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with opened(declared("Tram"), tmp_path, runtime={"instance": "one"}) as first:
        move(OPENING + timedelta(seconds=10), first)
        topics = {spec.name for spec in state_of(first).log.topics()}
        refused = opened(declared("Metro", **changed), tmp_path, runtime={"instance": "two"})
        with pytest.raises(StateError) as refusal:
            refused.__enter__()
        message = str(refusal.value)
        assert "declared otherwise by tram-one (there, generation 1) than by metro-two (here)" in message and words in message
        assert "give Load another topic" in message and "kandle run --replace loads" in message
        # It has made no topics, and disturbed nobody.
        assert {spec.name for spec in state_of(first).log.topics()} == topics
        (group,) = state_of(first).log.groups("kandle-loads")
        assert set(group.owners.values()) == {"tram-one"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heartbeat": {"topic": "{bars}_beats"}}, "heartbeat.topic: loads_hb_1m there, loads_beats here"),
        ({"universe": {"expire_after": "2d"}}, "universe.expire_after: 7d there, 2d here"),
    ],
)
def test_options_on_which_bars_depend_are_part_of_a_declaration(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with opened(declared("Tram"), tmp_path, runtime={"instance": "one"}), pytest.raises(StateError, match=words):
        opened(declared("Metro"), tmp_path, runtime={"instance": "two"}, **options).__enter__()


@pytest.mark.parametrize("name", ["Tram", "Metro"])
def test_a_declaration_is_refused_both_ways_and_the_first_one_counts(tmp_path: Path, name: str) -> None:
    with opened(declared(name, minutes=(1, 5)), tmp_path):
        pass
    for cls in (declared("Tram"), declared("Metro")):
        with pytest.raises(StateError, match="timeframe 5m: made from 1m, grace 0s there, none here"):
            opened(cls, tmp_path).__enter__()
    with opened(declared("Bus", minutes=(1, 5)), tmp_path):
        pass


def test_readers_and_writers_may_declare_what_they_like(tmp_path: Path) -> None:
    with opened(declared("Tram"), tmp_path), opened(declared("Metro", total=f.max), tmp_path, access="read_only") as reader:
        assert reader.health().queries == ()


@pytest.fixture
def former(tmp_path: Path) -> Iterator[Path]:
    """The folder of a declaration that has made the bars of 14:27 and 14:28 and was stopped in the middle of 14:29."""
    with opened(declared("Tram"), tmp_path, runtime={"instance": "one"}) as first:
        for second in (10, 70, 130):
            move(OPENING + timedelta(seconds=second), first)
            ride(first, OPENING + timedelta(seconds=second))
        move(OPENING + timedelta(seconds=150), first)
        assert len(minutes(first)) == 2 * len(LINES)
    yield tmp_path


REPLACES: dict[str, Any] = {"runtime": {"instance": "two", "replace": ["loads"]}}
STOPPED = OPENING + timedelta(seconds=150)


def test_a_replacement_goes_on_where_the_former_declaration_stood(former: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed = declared("Metro", minutes=(1, 5), total=f.max)
    with opened(changed, former, STOPPED, **REPLACES) as second:
        move(OPENING + timedelta(seconds=170), second)
        ride(second, OPENING + timedelta(seconds=170))
        move(OPENING + timedelta(minutes=3), second)
        # The bars that were there are there once; that of 14:29 has all its events.
        assert set(minutes(second).values()) == {1} and len(minutes(second)) == 3 * len(LINES)
        assert riders(second) == 3 * len(LINES)
        # That of five minutes, 14:25 to 14:30, was open, and has the events from before the change.
        five = Counter(key[1] for key in minutes(second, "loads_5m_final").elements())
        assert five == {OPENING - timedelta(minutes=2): len(LINES)}
        move(OPENING + timedelta(minutes=8), second)
        assert set(minutes(second).values()) == set(minutes(second, "loads_5m_final").values()) == {1}
    assert "generation 2 replaces that of tram-one: timeframe 5m: none there" in caplog.text
    # Topics of a new timeframe are not taken for deleted ones.
    assert "is missing" not in caplog.text
    # The former one is refused from now on; the new one starts without a word.
    with pytest.raises(StateError, match=r"metro-two \(there, generation 2\) than by tram"):
        opened(declared("Tram"), former, STOPPED).__enter__()
    with opened(changed, former, OPENING + timedelta(minutes=8)) as second:
        move(OPENING + timedelta(minutes=10), second)
        assert set(minutes(second).values()) == {1} and len(minutes(second)) == 10 * len(LINES)


def test_a_replacement_survives_being_killed_again_and_again(former: Path) -> None:
    changed = declared("Metro", minutes=(1, 5))
    for second in range(155, 420, 20):
        now = OPENING + timedelta(seconds=second)
        market = opened(changed, former, now - timedelta(seconds=5), **REPLACES)
        market.__enter__()
        move(now, market)
        ride(market, now)
        move(now + timedelta(seconds=1), market)
        # Not left: its lease runs out before the next one begins.
        state_of(market).log.close()
    with opened(changed, former, OPENING + timedelta(seconds=430)) as market:
        move(OPENING + timedelta(minutes=9), market)
        assert set(minutes(market).values()) == set(minutes(market, "loads_5m_final").values()) == {1}
        assert riders(market, "loads_5m_final") == riders(market) == (3 + 14) * len(LINES)


def test_a_replacement_may_begin_at_an_instant_or_now(former: Path) -> None:
    begin = {"instance": "two", "replace": ["Load"], "replace_from": "2024-03-08T14:28:30Z"}
    with opened(declared("Metro", total=f.count_distinct, seconds=30), former, STOPPED, runtime=begin) as second:
        move(OPENING + timedelta(seconds=180), second)
        # The new timeframe begins with the first bucket that is read as a whole.
        halves = Counter(start for _, start in minutes(second, "loads_30s_final").elements())
        assert min(halves) == OPENING + timedelta(seconds=90) and set(halves.values()) == {len(LINES)}
        assert set(minutes(second).values()) == {1}
    now = {"instance": "three", "replace": ["loads"], "replace_from": "latest"}
    with opened(declared("Bus", total=f.min), former, OPENING + timedelta(seconds=190), runtime=now) as third:
        move(OPENING + timedelta(seconds=250), third)
        ride(third, OPENING + timedelta(seconds=250))
        move(OPENING + timedelta(minutes=6), third)
        starts = {start for _, start in minutes(third)}
        # 14:30 had begun before, so part of its events is not read and it is not made.
        assert OPENING + timedelta(minutes=3) not in starts and OPENING + timedelta(minutes=4) in starts
        assert set(minutes(third).values()) == {1}


def test_a_declaration_is_not_replaced_while_processes_run_it(tmp_path: Path) -> None:
    with opened(declared("Tram"), tmp_path) as first:
        move(OPENING + timedelta(seconds=10), first)
        with pytest.raises(StateError, match="cannot be replaced while processes run the former one"):
            opened(declared("Metro", minutes=5), tmp_path, OPENING + timedelta(seconds=10), **REPLACES).__enter__()
        move(OPENING + timedelta(seconds=20), first)
        assert partitions(first) == (0, 1, 2, 3)


def test_a_process_that_was_paused_during_a_replacement_ends_with_an_error(tmp_path: Path) -> None:
    with opened(declared("Tram"), tmp_path, runtime={"instance": "one"}) as first:
        move(OPENING + timedelta(seconds=10), first)
        ride(first, OPENING + timedelta(seconds=10))
        # It stands still for a minute, so that its lease ends.
        with opened(declared("Metro", minutes=(1, 5)), tmp_path, OPENING + timedelta(seconds=70), **REPLACES) as second:
            move(OPENING + timedelta(seconds=80), second)
            assert partitions(second) == (0, 1, 2, 3)
            with pytest.raises(StateError, match=r"was replaced by (that of metro-two \(generation 2\)|generation 2)"):
                move(OPENING + timedelta(seconds=90), first, second)
            move(OPENING + timedelta(minutes=6), second)
            assert set(minutes(second).values()) == {1} and riders(second) == len(LINES)


def test_a_process_notices_a_replacement_also_while_its_partitions_stay(tmp_path: Path) -> None:
    with opened(declared("Tram"), tmp_path, runtime={"instance": "one"}) as first:
        move(OPENING + timedelta(seconds=10), first)
        runtime: Any = state_of(first).opened._runtime
        log = state_of(first).log
        runtime.watch(log)
        assert first.problem is None
        with opened(declared("Metro", minutes=(1, 5)), tmp_path, OPENING + timedelta(seconds=70), **REPLACES):
            pass
        runtime.watch(log)
        assert "was replaced by that of metro-two (generation 2): timeframe 5m" in str(first.problem)


def test_who_is_assigned_partitions_looks_whether_its_declaration_still_counts(tmp_path: Path) -> None:
    with opened(declared("Tram"), tmp_path, runtime={"instance": "one"}) as first:
        # It has not joined its group yet.
        with opened(declared("Metro", minutes=(1, 5)), tmp_path, **REPLACES):
            pass
        with pytest.raises(StateError, match=r"was replaced by that of metro-two \(generation 2\)"):
            move(OPENING + timedelta(seconds=10), first)


def test_what_makes_other_bars_altogether_needs_a_topic_of_its_own(tmp_path: Path) -> None:
    with opened(declared("Tram"), tmp_path):
        pass

    class Metro(Context):
        trips: EventSet[Trip]
        loads: EventSet[Load]

        def on_model_creating(self, model: kandle.ModelBuilder) -> None:
            model.entity(Load).to_query(
                lambda q: (
                    q.from_(Trip)
                    .tumbling(lambda t: t.time, minutes=1)
                    .group_by(lambda t: f.upper(t.line))
                    .select(lambda t, w: Load(line=f.upper(t.line), start=w.start, riders=f.sum(t.riders)))
                )
            )

    with pytest.raises(StateError, match=r"cannot be replaced, since it differs in group key .*give Load another topic"):
        opened(Metro, tmp_path, **REPLACES).__enter__()
    with pytest.raises(OptionsError, match="no query makes bars 'load'; did you mean 'loads'"):
        opened(Metro, tmp_path, runtime={"replace": ["load"]}).__enter__()


def make_old(folder: Path, group: str) -> None:
    """Give a data folder the form that the version before this one has left: another group, and no declarations."""
    with closing(sqlite3.connect(folder / "log.db")) as database, database:
        for table in ("position", "lease", "member", "generation"):
            database.execute(f"UPDATE {table} SET name = ? WHERE name = 'kandle-loads'", [group])
        for name in (DECLARATIONS, "loads_hb_1m"):
            # Heartbeats were in a topic of another name.
            ((number,),) = database.execute("SELECT id FROM topic WHERE name = ?", [name]).fetchall()
            for table in ("batch", "partition"):
                database.execute(f"DELETE FROM {table} WHERE topic = ?", [number])
            database.execute("DELETE FROM topic WHERE id = ?", [number])
        database.execute("UPDATE position SET topic = 'hb_1m' WHERE topic = 'loads_hb_1m'")


@pytest.mark.parametrize(("group", "options"), [("tram-loads", {}), ("east-loads", {"consumer": {"group": "east"}})])
def test_the_state_of_an_older_version_goes_on(
    former: Path, group: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    make_old(former, group)
    caplog.clear()
    with opened(declared("Tram"), former, STOPPED, **options) as market:
        move(OPENING + timedelta(seconds=170), market)
        ride(market, OPENING + timedelta(seconds=170))
        move(OPENING + timedelta(minutes=4), market)
        assert set(minutes(market).values()) == {1} and len(minutes(market)) == 4 * len(LINES)
        assert riders(market) == 4 * len(LINES)
        assert len(state_of(market).log.committed("kandle-loads", "trips")) == 4
    assert "is missing" not in caplog.text
    # Once: from now on its own positions count.
    with closing(sqlite3.connect(former / "log.db")) as database, database:
        database.execute("UPDATE position SET next = 0 WHERE name = ?", [group])
    with opened(declared("Tram"), former, OPENING + timedelta(minutes=5), **options) as market:
        move(OPENING + timedelta(minutes=7), market)
        assert set(minutes(market).values()) == {1} and riders(market) == 4 * len(LINES)
        own = state_of(market).log.committed("kandle-loads", "trips")
    # Partition by partition: one that was not committed in its own name yet goes on from the former one.
    with closing(sqlite3.connect(former / "log.db")) as database, database:
        own_partition = [group, own[1]]
        database.execute("UPDATE position SET next = ?2 WHERE name = ?1 AND topic = 'trips' AND partition = 1", own_partition)
        database.execute("DELETE FROM position WHERE name = 'kandle-loads' AND topic = 'trips' AND partition = 1")
    with opened(declared("Tram"), former, OPENING + timedelta(minutes=8), **options) as market:
        move(OPENING + timedelta(minutes=9), market)
        assert set(minutes(market).values()) == {1} and riders(market) == 4 * len(LINES)
        assert market.health().queries[0].counters.late == 0


def test_nothing_begins_while_processes_of_an_older_version_run(former: Path) -> None:
    make_old(former, "tram-loads")
    with closing(sqlite3.connect(former / "log.db")) as database, database:
        steady = round(STOPPED.timestamp() * 1_000_000)
        member = ("tram-loads", "old", "session", "[]", steady + 5_000_000, 5_000_000)
        database.execute("INSERT INTO member (name, member, session, topics, expires, lease) VALUES (?, ?, ?, ?, ?, ?)", member)
    with opened(declared("Tram"), former, STOPPED) as market:
        move(STOPPED + timedelta(seconds=3), market)
        (query,) = market.health().queries
        assert query.partitions == ()
        assert "processes of an older version of kandle still run it in the group tram-loads" in query.problem
        move(STOPPED + timedelta(seconds=30), market)
        assert partitions(market) == (0, 1, 2, 3) and market.health().queries[0].problem is None
        move(OPENING + timedelta(minutes=4), market)
        assert set(minutes(market).values()) == {1} and riders(market) == 3 * len(LINES)


def test_a_state_goes_on_where_it_stood_when_the_positions_of_its_group_are_gone(former: Path) -> None:
    with closing(sqlite3.connect(former / "log.db")) as database, database:
        database.execute("DELETE FROM position")
    with opened(declared("Tram"), former, STOPPED) as market:
        ride(market, OPENING + timedelta(seconds=170))
        move(OPENING + timedelta(minutes=4), market)
        assert set(minutes(market).values()) == {1} and len(minutes(market)) == 4 * len(LINES)
        assert riders(market) == 4 * len(LINES)
        assert market.health().queries[0].counters.late == 0


def test_a_state_of_an_older_version_without_positions_is_not_begun_anew(former: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(former, "somebody-loads")
    monkeypatch.setattr(LastEvent, "from_numbers", lambda numbers: None)
    with (
        pytest.raises(StateError, match=r"has a state of Load, but group kandle-loads has no position in trips"),
        opened(declared("Tram"), former, STOPPED) as market,
    ):
        move(OPENING + timedelta(minutes=4), market)


def test_a_changed_declaration_is_refused_for_the_state_of_an_older_version(former: Path) -> None:
    make_old(former, "tram-loads")
    with pytest.raises(StateError, match=r"the state in topic loads_changelog belongs to another declaration of Load"):
        opened(declared("Tram", minutes=(1, 5)), former, STOPPED).__enter__()
    with opened(declared("Tram"), former, STOPPED) as market:
        move(STOPPED + timedelta(seconds=3), market)
        assert partitions(market) == (0, 1, 2, 3)


def test_doctor_says_who_declares_otherwise(former: Path) -> None:
    with opened(declared("Tram"), former, STOPPED) as market:
        plan = market._plans[Load]
        other = declared("Metro", minutes=(1, 5)).model().queries[Load]
        log = state_of(market).log
        (right,) = declaration_findings(log, [(plan, declaration(plan))])
        (wrong,) = declaration_findings(log, [(plan_of(other), declaration(plan_of(other)))])
    assert (right.level, right.message) == ("ok", "Load is declared as its bars are made (generation 1, tram-one)")
    assert wrong.level == "problem"
    assert "declared otherwise by tram-one (there, generation 1): timeframe 5m: none there" in wrong.message
