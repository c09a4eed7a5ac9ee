"""An embedded log whose file was cut, whose bytes were changed, or whose disk is full."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kandle.errors import StorageError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.embedded.repair import repair
from kandle.log.port import GroupSpec, TopicPartition
from kandle.time.timeframe import MINUTE
from tests.log.building import MovedClock, numbers_of, offsets_of, partitions_of, read_all, settle_on, topic_spec, write
from tests.log.embedded.processes import Process

PARTITIONS = 2
APPENDS = 30
ROWS = 150
ALL = PARTITIONS * APPENDS * ROWS
PAGE = 16_384
SPEC = topic_spec("topic", partitions=PARTITIONS)

Content = dict[int, list[tuple[int, int, int]]]
"""By partition: offset, number and time of each record."""


def content(log: EmbeddedLog) -> Content:
    """All records of the topic."""
    records: Content = {}
    for partition in range(PARTITIONS):
        batches = read_all(log, "topic", partition)
        times = [int(time) for batch in batches for time in batch.timestamps]
        records[partition] = list(zip(offsets_of(batches), numbers_of(batches), times, strict=True))
    return records


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Content]:
    """A log that was closed well, and what is in it."""
    path = tmp_path_factory.mktemp("sound") / "log"
    log = EmbeddedLog(path)
    log.ensure(SPEC)
    consumer = log.consumer(GroupSpec("group", ("topic",), "one", lease=MINUTE))
    settle_on([consumer], partitions_of("topic", PARTITIONS))
    for number in range(APPENDS):
        for partition in range(PARTITIONS):
            log.append([write("topic", range(number * ROWS, (number + 1) * ROWS), partition)])
    consumer.commit({TopicPartition("topic", 0): 77, TopicPartition("topic", 1): 5})
    consumer.close()
    records = content(log)
    assert {partition: len(rows) for partition, rows in records.items()} == dict.fromkeys(range(PARTITIONS), APPENDS * ROWS)
    log.close()
    return path, records


@pytest.fixture
def damage(sound: tuple[Path, Content], tmp_path: Path) -> Callable[[Callable[[bytearray], Any]], Path]:
    """Makes a copy of the sound log whose file was changed."""

    def damaged(change: Callable[[bytearray], Any]) -> Path:
        path = tmp_path / f"log{len(list(tmp_path.iterdir()))}"
        shutil.copytree(sound[0], path)
        data = bytearray((path / "log.db").read_bytes())
        change(data)
        (path / "log.db").write_bytes(data)
        return path

    return damaged


Damage = Callable[[Callable[[bytearray], Any]], Path]


def outcome(path: Path) -> Content | str:
    """What a damaged log gives: all records of the topic, none if it is another topic now, or an error."""
    try:
        log = EmbeddedLog(path)
    except StorageError as error:
        return str(error)
    try:
        problems = log.check()
        records = content(log)
        if log.topic("topic") != SPEC:
            return {}
    except StorageError as error:
        return str(error)
    finally:
        log.close()
    return "; ".join(problems) or records


def assert_salvaged(path: Path, before: Content) -> tuple[int, tuple[str, ...]]:
    """Repair, and check that what is left is sound and was there before; gives the number of records left and what was lost."""
    done = repair(path)
    assert done.backup.exists()
    log = EmbeddedLog(path)
    assert log.check() == []
    left = 0
    if "topic" in {spec.name for spec in log.topics()}:
        for partition, rows in content(log).items():
            assert set(rows) <= set(before[partition])
            left += len(rows)
        ends = log.ends("topic")
        assert log.append([write("topic", [1], partition) for partition in range(PARTITIONS)]) == ends
        for partition, rows in content(log).items():
            offsets = [offset for offset, _, _ in rows]
            assert offsets == sorted(set(offsets))
            assert offsets[-1] == ends[partition]
    log.close()
    return left, done.lost


def test_a_sound_log_has_no_problems_and_a_repair_loses_nothing(sound: tuple[Path, Content], damage: Damage) -> None:
    path = damage(lambda data: None)
    assert outcome(path) == sound[1]
    assert assert_salvaged(path, sound[1]) == (ALL, ())
    log = EmbeddedLog(path)
    assert log.committed("group", "topic") == {0: 77, 1: 5}
    assert log.topic("topic") == SPEC
    log.close()


@pytest.mark.parametrize("share", [0.95, 0.7, 0.5])
def test_a_file_that_was_cut_is_an_error_by_name_and_repair_saves_the_rest(
    sound: tuple[Path, Content], damage: Damage, share: float
) -> None:
    path = damage(lambda data: data.__delitem__(slice(int(len(data) * share), None)))
    result = outcome(path)
    assert isinstance(result, str)
    assert path.name in result or "topic" in result
    left, lost = assert_salvaged(path, sound[1])
    assert lost
    assert left >= ALL * (share - 0.35)


def test_a_file_that_is_no_log_at_all_is_an_error_that_names_the_way_out(damage: Damage) -> None:
    path = damage(lambda data: data.__setitem__(slice(None), b"not a log " * 5000))
    result = outcome(path)
    assert isinstance(result, str)
    assert str(path) in result
    assert "repair" in result


def test_an_empty_file_is_a_new_log(damage: Damage) -> None:
    path = damage(lambda data: data.clear())
    log = EmbeddedLog(path)
    assert (log.topics(), log.check()) == ([], [])
    log.close()


def flipped(data: bytearray, position: int, bit: int = 3) -> None:
    """Change one bit."""
    data[position] ^= 1 << bit


def overwritten(data: bytearray, start: int, content: bytes) -> None:
    """Write over what is there."""
    data[start : start + len(content)] = content


def places(path: Path, part: str) -> range:
    """Where a part of the file lies."""
    data = (path / "log.db").read_bytes()
    database = sqlite3.connect(path / "log.db")
    blob, text = (
        database.execute(f"SELECT {name}").fetchone()[0] for name in ("blob FROM batch WHERE id = 30", "spec FROM topic")
    )
    index = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'batch_place'").fetchone()[0]
    database.close()
    begin = data.index(blob)
    parts = {
        "the records of an append": range(begin, begin + len(blob)),
        "what is said of an append": range(begin - 44, begin),
        "the index": range(index * PAGE - 900, index * PAGE),
        "the topic": range(data.index(text.encode()), data.index(text.encode()) + len(text)),
        "the tables": range(PAGE - 1500, PAGE),
        "the head of the file": range(100),
    }
    return parts[part]


def test_changed_bytes_of_records_are_an_error_that_names_them(sound: tuple[Path, Content], damage: Damage) -> None:
    position = places(sound[0], "the records of an append")[1000]
    path = damage(lambda data: flipped(data, position))
    log = EmbeddedLog(path)
    (problem,) = log.check()
    assert "topic" in problem
    with pytest.raises(StorageError, match=r"topic.*partition \d.*offsets \d+ to \d+.*repair"):
        content(log)
    log.close()
    left, lost = assert_salvaged(path, sound[1])
    assert left == ALL - ROWS
    (what,) = lost
    assert "topic" in what
    assert "partition" in what


@pytest.mark.parametrize(
    ("part", "count", "kept"),
    [
        ("the records of an append", 8, ALL - ROWS),
        ("what is said of an append", 15, ALL - 20 * ROWS),
        ("the index", 15, ALL),
        ("the topic", 30, 0),
        ("the tables", 2, 0),
        ("the head of the file", 5, 0),
    ],
)
def test_a_changed_bit_is_an_error_or_changes_nothing(
    sound: tuple[Path, Content], damage: Damage, part: str, count: int, kept: int
) -> None:
    chance = random.Random(part)
    where = places(sound[0], part)
    noticed, unnoticed = 0, []
    for position in chance.sample(where, count):
        bit = chance.randrange(8)
        path = damage(partial(flipped, position=position, bit=bit))
        result = outcome(path)
        noticed += isinstance(result, str)
        if not isinstance(result, str) and result != sound[1]:
            unnoticed.append(position - where.start)
        left, _ = assert_salvaged(path, sound[1])
        assert left >= kept, f"{ALL - left} records are lost for one byte at {position - where.start} of {part}"
        shutil.rmtree(path)
    assert not unnoticed, f"these bytes of {part} had a bit changed and nobody noticed: {unnoticed}"
    assert noticed


def test_a_head_that_tells_a_wrong_size_does_not_keep_the_repair_from_its_work(
    sound: tuple[Path, Content], damage: Damage
) -> None:
    for size in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x02"):
        path = damage(partial(overwritten, start=28, content=size))
        assert outcome(path) == sound[1] or isinstance(outcome(path), str)
        assert_salvaged(path, sound[1])


def test_a_page_of_nothing_in_the_middle_is_noticed_and_the_rest_is_saved(sound: tuple[Path, Content], damage: Damage) -> None:
    size = (sound[0] / "log.db").stat().st_size
    for start in [*range(0, 12 * PAGE, PAGE), *range(12 * PAGE, size, 4 * PAGE)]:
        path = damage(partial(overwritten, start=start, content=bytes(PAGE)))
        result = outcome(path)
        assert isinstance(result, str) or result == sound[1], f"the page at {start} is empty and nobody noticed"
        if start:
            assert_salvaged(path, sound[1])


def test_a_repair_says_where_the_damaged_file_is_and_keeps_it(sound: tuple[Path, Content], damage: Damage) -> None:
    path = damage(lambda data: data.__delitem__(slice(len(data) // 2, None)))
    before = (path / "log.db").read_bytes()
    done = repair(path)
    assert done.backup.read_bytes() == before
    assert str(done.backup) in str(done)
    again = repair(path)
    assert again.lost == ()
    assert again.backup != done.backup
    assert done.backup.read_bytes() == before


def test_a_repair_of_a_folder_without_a_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no log"):
        repair(tmp_path)


def database_of_something_else(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE topic (name TEXT)")
        database.execute("CREATE TABLE customer (name TEXT)")
        database.executemany("INSERT INTO customer VALUES (?)", [("one",), ("two",)])


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "a database of something else": database_of_something_else,
    "a text": lambda path: path.write_bytes(b"not a log " * 5000),
    "an empty file": lambda path: path.touch(),
}


@pytest.mark.parametrize("content", FOREIGN)
def test_a_repair_of_a_file_that_is_no_log_refuses_and_touches_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "log.db"
    FOREIGN[content](file)
    before = (file.read_bytes(), file.stat().st_mtime_ns, sorted(tmp_path.iterdir()))
    with pytest.raises(StorageError, match=rf"{file} is (not a log of kandle|empty), so there is nothing to repair"):
        repair(tmp_path)
    assert (file.read_bytes(), file.stat().st_mtime_ns, sorted(tmp_path.iterdir())) == before


def test_a_log_that_is_still_in_its_journal_alone_can_be_repaired(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    log.ensure(topic_spec("topic"))
    log.append([write("topic", [1, 2])])
    shutil.copytree(tmp_path / "log", tmp_path / "copy", ignore=shutil.ignore_patterns("bells"))
    log.close()
    repair(tmp_path / "copy")
    assert numbers_of(read_all(EmbeddedLog(tmp_path / "copy"), "topic")) == [1, 2]


USERS = {
    "waits": """
consumer = log.consumer(GroupSpec("group", ("topic",), "one", reset="latest"))
settle([consumer], lambda: len(consumer.assignment) > 0)
consumer.poll(1000, 1)
""",
    "writes": "log.append([write('topic', [1])])",
}


@pytest.mark.parametrize("use", USERS)
def test_a_log_that_another_process_has_open_is_not_repaired(sound: tuple[Path, Content], damage: Damage, use: str) -> None:
    path = damage(lambda data: None)
    other = Process(path, USERS[use] + "\nsay('ready')\ninstruction()")
    assert other.heard() == "ready"
    with pytest.raises(StorageError, match="in use"):
        repair(path)
    other.kill()
    assert repair(path).lost == ()


CRASH = """
import os
for number in range(30):
    log.append([write("topic", range(number * 50, (number + 1) * 50))])
say("ready")
instruction()
"""


def test_a_power_loss_takes_the_newest_appends_as_a_whole(tmp_path: Path) -> None:
    """What was written since the last checkpoint is in the file beside; without power it may end anywhere."""
    path = tmp_path / "log"
    log = EmbeddedLog(path)
    log.ensure(topic_spec("topic"))
    log.close()
    writer = Process(path, CRASH)
    assert writer.heard() == "ready"
    writer.kill()
    data = (path / "log.db-wal").read_bytes()
    assert len(data) > 100_000
    for share in (0.99, 0.8, 0.6, 0.3, 0.01):
        copy = tmp_path / f"log{share}"
        copy.mkdir()
        shutil.copy(path / "log.db", copy)
        (copy / "log.db-wal").write_bytes(data[: int(len(data) * share)])
        log = EmbeddedLog(copy)
        assert log.check() == []
        kept = numbers_of(read_all(log, "topic"))
        assert kept == list(range(len(kept)))
        assert len(kept) % 50 == 0
        assert 1500 * share * 0.8 - 100 <= len(kept) < 1500
        assert log.append([write("topic", [1])]) == [len(kept)]
        log.close()


LIMITED = """
import random, resource
size, length = map(int, words)
chance, rows = random.Random(0), 20
written = 0

def append():
    global written
    numbers = range(written, written + rows)
    symbols = [chance.randbytes(length).hex() for _ in numbers]
    log.append([write("topic", numbers, symbols=symbols), write("copies", numbers)])
    written += rows

resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    while True:
        append()
except StorageError as error:
    say(written, isinstance(error, OSError), error)
say(numbers_of(read_all(log, "topic")) == list(range(written)))
instruction()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for _ in range(20):
    append()
say(written)
"""


@pytest.mark.parametrize(("size", "length"), [(400_000, 10), (18_000_000, 10_000)], ids=["for the journal", "for the file too"])
def test_a_full_disk_loses_nothing_acknowledged_and_writing_goes_on_when_there_is_room(
    tmp_path: Path, size: int, length: int
) -> None:
    """No file can grow over a size, which the journal reaches at once, or only when it cannot be emptied into the file."""
    path = tmp_path / "log"
    log = EmbeddedLog(path)
    for topic in ("topic", "copies"):
        log.ensure(topic_spec(topic))
    writer = Process(path, LIMITED, size, length)
    written, is_os_error, *message = writer.heard().split()
    assert int(written) > 0
    assert is_os_error == "True"
    assert str(path) in " ".join(message)
    assert writer.heard() == "True"
    for topic in ("topic", "copies"):
        assert numbers_of(read_all(log, topic)) == list(range(int(written)))
    assert log.check() == []
    writer.tell("go on")
    expected = list(range(int(writer.heard())))
    assert len(expected) == int(written) + 20 * 20
    for topic in ("topic", "copies"):
        assert numbers_of(read_all(log, topic)) == expected
    assert log.check() == []
    writer.kill()
    log.close()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file"):
        EmbeddedLog(tmp_path / "file")
    with pytest.raises(StorageError, match=r"file"):
        EmbeddedLog(tmp_path / "file" / "log")


def test_a_file_of_another_version_is_an_error_that_says_so(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    log.database.run("PRAGMA user_version = 99")
    log.close()
    with pytest.raises(StorageError, match="version"):
        EmbeddedLog(tmp_path / "log")


def test_the_file_does_not_grow_for_ever_when_old_records_go(tmp_path: Path) -> None:
    """Some 60 MB go through a topic that keeps 1 MB."""
    limit, clock = 1_000_000, MovedClock()
    log = EmbeddedLog(tmp_path / "log", clock)
    log.ensure(topic_spec("bytes", retention_bytes=limit))
    log.ensure(topic_spec("time", retention=MINUTE))
    chance = random.Random(3)
    size, first = 0, 0
    for number in range(300):
        texts = [chance.randbytes(2_000).hex() for _ in range(25)]
        log.append([write(topic, range(first, first + 25), symbols=texts) for topic in ("bytes", "time")])
        first += 25
        clock.ahead += 10_000_000
        if number % 10 == 9:
            log.maintain()
            size = max(size, sum(file.stat().st_size for file in (tmp_path / "log").glob("log.db*")))
            assert log.partitions("bytes")[0].bytes <= limit
            assert log.partitions("time")[0].rows <= 7 * 25
    assert sum(len(batch) for batch in read_all(log, "bytes")) > 0
    assert size < 30_000_000, f"the files took up {size} bytes"
    log.close()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StorageError, match=r"log .*data: a log is a folder, but this is a file; name another folder"):
        EmbeddedLog(tmp_path / "data")


def test_a_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log.db")) as other:
        other.execute("CREATE TABLE theirs (value)")
        other.commit()
    with pytest.raises(StorageError, match=r"its log\.db is a database of something else, not a log; name another folder"):
        EmbeddedLog(tmp_path)
    with closing(sqlite3.connect(tmp_path / "log.db")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
