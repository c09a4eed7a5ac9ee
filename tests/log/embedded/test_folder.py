"""The folder of a log that is open: removed, moved, replaced, or one that can only be read."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kandle.errors import StorageError
from kandle.log.embedded.log import EmbeddedLog
from kandle.log.port import GroupSpec, TopicPartition
from kandle.time.timeframe import MINUTE, SECOND
from tests.log.building import numbers_of, partitions_of, read_all, settle_on, topic_spec, write
from tests.log.embedded.processes import Process
from tests.rights import as_ordinary_user, not_writable, readable_folder
from tests.waiting import LIMIT, aside, wait_until

GONE = r"log .*: the folder, or its log.db, was removed, moved or replaced while it was open"


def removed(path: Path) -> None:
    shutil.rmtree(path)


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    """Put another log, with the same topic, in its folder."""
    moved(path)
    with_one(path).close()


CHANGES = [removed, moved, replaced]


def with_one(path: Path) -> EmbeddedLog:
    """A log with a topic of one record, the number 0."""
    log = EmbeddedLog(path)
    log.ensure(topic_spec("topic"))
    log.append([write("topic", [0])])
    return log


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_is_gone_is_noticed_by_every_use_of_its_log(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "log"
    log = with_one(path)
    reader = log.connect()
    consumer = log.consumer(GroupSpec("group", ("topic",), "one", lease=MINUTE))
    settle_on([consumer], partitions_of("topic", 1))
    change(path)
    position = {TopicPartition("topic", 0): 1}
    uses: list[Callable[[], object]] = [
        lambda: log.append([write("topic", [1])]),
        lambda: consumer.commit(position, [write("topic", [1])]),
        lambda: consumer.poll(0, 10),
        lambda: read_all(reader, "topic"),
        lambda: reader.ends("topic"),
        reader.topics,
        log.maintain,
    ]
    for use in uses:
        with pytest.raises(StorageError, match=GONE) as failure:
            use()
        assert str(path) in str(failure.value)
    with pytest.raises(StorageError, match=GONE):
        consumer.close()
    log.close()
    reader.close()
    folders = [folder for folder in (path, path.with_name("elsewhere")) if folder.exists()]
    for folder in folders:
        assert numbers_of(read_all(EmbeddedLog(folder), "topic")) == [0]


def test_a_commit_whose_folder_goes_in_the_middle_of_it_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = with_one(path)
    with pytest.raises(StorageError, match=GONE), log.database.transaction():
        log.database.run("DELETE FROM batch")
        moved(path)
    assert numbers_of(read_all(EmbeddedLog(path.with_name("elsewhere")), "topic")) == [0]


@pytest.mark.parametrize("waiting", ["pipe", "poll"])
def test_a_reader_that_waits_notices_it(tmp_path: Path, waiting: str) -> None:
    path = tmp_path / "log"
    with_one(path).close()
    log = EmbeddedLog(path, waiting=waiting)  # type: ignore[arg-type]
    consumer = log.consumer(GroupSpec("group", ("topic",), "one", lease=MINUTE))
    settle_on([consumer], partitions_of("topic", 1))
    wait = aside(lambda: consumer.poll(LIMIT * SECOND, 10))
    removed(path)
    wait_until(wait.done)
    assert isinstance(wait.exception(), StorageError)


WRITES_ON = """
say("ready")
instruction()
try:
    log.append([write("topic", [1])])
    say("written")
except StorageError as error:
    say(error)
"""


def test_another_process_notices_it_too(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with_one(path).close()
    other = Process(path, WRITES_ON)
    assert other.heard() == "ready"
    replaced(path)
    other.tell("go on")
    assert "was removed, moved or replaced" in other.heard()
    assert numbers_of(read_all(EmbeddedLog(path), "topic")) == [0]
    other.kill()


def test_a_working_folder_that_changes_is_no_other_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = with_one(Path("log"))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    log.append([write("topic", [1])])
    assert numbers_of(read_all(log, "topic")) == [0, 1]
    log.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with readable_folder() as folder:
        yield folder / "log"


def closed(path: Path) -> None:
    """All is in the file, and there is no journal."""
    with_one(path).close()


def crashed(path: Path) -> None:
    """The record is only in the journal, with its index beside it."""
    source = path.with_name("source")
    log = with_one(source)
    shutil.copytree(source, path, ignore=shutil.ignore_patterns("bells"))
    log.close()
    assert sqlite3.connect(f"file:{path / 'log.db'}?immutable=1", uri=True).execute("PRAGMA user_version").fetchone() == (0,)


def copied(path: Path) -> None:
    """As crashed, but the index was not copied along."""
    crashed(path)
    (path / "log.db-shm").unlink()


STATES = [closed, crashed, copied]


@pytest.mark.parametrize("state", STATES)
def test_a_folder_that_cannot_be_written_can_be_read(folder: Path, state: Callable[[Path], None]) -> None:
    state(folder)
    with not_writable(folder):
        before = sorted(part.name for part in folder.iterdir())
        log = EmbeddedLog(folder)
        assert numbers_of(read_all(log, "topic")) == [0]
        assert [spec.name for spec in log.topics()] == ["topic"]
        assert log.check() == []
        assert not log.wait(1) or not log.wait(1)
        for write_to in (lambda: log.append([write("topic", [1])]), lambda: log.ensure(topic_spec("other"))):
            with pytest.raises(StorageError, match=f"log {folder} can only be read: its folder or log.db cannot be written"):
                write_to()
        consumer = log.connect().consumer(GroupSpec("group", ("topic",), "one", lease=MINUTE))
        with pytest.raises(StorageError, match="can only be read"):
            consumer.poll(0, 10)
        log.close()
        assert sorted(part.name for part in folder.iterdir()) == before


def test_what_others_write_into_a_folder_is_seen_by_those_who_can_only_read(folder: Path) -> None:
    closed(folder)
    with not_writable(folder):
        reader = EmbeddedLog(folder)
        assert numbers_of(read_all(reader, "topic")) == [0]
    writer = EmbeddedLog(folder)
    for number in range(1, 4):
        writer.append([write("topic", [number])])
        with as_ordinary_user():
            assert numbers_of(read_all(reader, "topic")) == list(range(number + 1))
    writer.close()
    with as_ordinary_user():
        assert numbers_of(read_all(reader, "topic")) == [0, 1, 2, 3]
    reader.close()


def test_a_folder_without_a_log_that_cannot_be_written_is_an_error_that_names_it(folder: Path) -> None:
    folder.mkdir()
    with not_writable(folder), pytest.raises(StorageError, match=f"log {folder}: .*[Pp]ermission"):
        EmbeddedLog(folder)


def test_a_log_that_its_user_may_not_even_read_is_an_error_that_names_it(folder: Path) -> None:
    closed(folder)
    (folder / "log.db").chmod(0o600)
    folder.chmod(0o555)
    with as_ordinary_user(), pytest.raises(StorageError, match=f"log {folder}: "):
        EmbeddedLog(folder)
