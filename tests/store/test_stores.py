from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from kandle.errors import StorageError
from kandle.store.memory import MemoryStore
from kandle.store.port import Store
from kandle.store.rocks import RocksStore
from tests.processes import RunningProcess
from tests.store.contract import StoreContract, StoreModel

ROOT = Path(__file__).parents[2]
KEYS_AT_ONCE = 20

HOLDER = """
import sys
from pathlib import Path
from kandle.store.rocks import RocksStore

store = RocksStore(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.readline()
"""

WRITER = """
import sys
from pathlib import Path
from kandle.store.rocks import RocksStore

store = RocksStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 10**9):
    text = str(number).encode()
    puts = {b"key%d" % key: text * (1 + number % 50) for key in range(int(sys.argv[3]))}
    store.write(puts | {b"n" + text: b""}, [b"n%d" % (number - 1)])
    print(number, flush=True)
"""


def process(script: str, *words: object) -> RunningProcess:
    return RunningProcess([sys.executable, "-c", script, *map(str, words)], ROOT)


def written(number: int) -> list[tuple[bytes, bytes]]:
    """All that there is after the write of this number."""
    text = str(number).encode()
    values = {b"key%d" % key: text * (1 + number % 50) for key in range(KEYS_AT_ONCE)} | {b"n" + text: b""}
    return sorted(values.items())


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        store = MemoryStore()
        yield store
        store.close()


class TestRocksStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = RocksStore(tmp_path / "state")
        yield store
        store.close()

    def test_what_was_written_is_there_after_reopening(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path / "state")
        store.write({b"a": b"1", b"b": b"2"}, [])
        store.write({}, [b"b"])
        store.close()
        assert list(RocksStore(tmp_path / "state").scan(b"")) == [(b"a", b"1")]

    def test_folders_above_are_made(self, tmp_path: Path) -> None:
        RocksStore(tmp_path / "one" / "two" / "three").close()
        assert (tmp_path / "one" / "two" / "three").is_dir()

    def test_an_unfinished_scan_does_not_keep_the_folder_locked(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path)
        store.write({b"a": b"1", b"b": b"2"})
        scan = store.scan(b"")
        next(scan)
        store.close()
        RocksStore(tmp_path).close()
        del scan

    def test_many_openings_do_not_pile_up_reports(self, tmp_path: Path) -> None:
        for _ in range(6):
            RocksStore(tmp_path).close()
        assert len(list(tmp_path.glob("LOG*"))) <= 3


class TestUnusableFolder:
    def test_a_second_store_of_this_process_is_told_so(self, tmp_path: Path) -> None:
        store = RocksStore(tmp_path)
        with pytest.raises(StorageError) as caught:
            RocksStore(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert "this process has it open: close that store first" in str(caught.value)
        store.close()

    def test_a_store_of_another_process_is_told_apart_from_damage(self, tmp_path: Path) -> None:
        holder = process(HOLDER, tmp_path)
        assert holder.next_line() == "open\n"
        with pytest.raises(StorageError) as caught:
            RocksStore(tmp_path)
        holder.tell("end")
        holder.ended()
        assert str(tmp_path) in str(caught.value)
        assert "another process has it open: end that process first" in str(caught.value)
        assert "delete the folder; it is rebuilt from the changelog" in str(caught.value)
        RocksStore(tmp_path).close()

    @pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.sst"])
    def test_a_damaged_file_is_an_error_that_names_the_way_out(self, tmp_path: Path, pattern: str) -> None:
        filled(tmp_path)
        for path in tmp_path.glob(pattern):
            path.write_bytes(b"damage" * 100)
        with pytest.raises(StorageError) as caught:
            everything(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert "delete the folder; it is rebuilt from the changelog" in str(caught.value)

    def test_a_scan_does_not_end_early_at_a_damaged_block(self, tmp_path: Path) -> None:
        filled(tmp_path)
        (table,) = tmp_path.glob("*.sst")
        content = bytearray(table.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 100] = bytes(100)
        table.write_bytes(content)
        with pytest.raises(StorageError, match="delete the folder; it is rebuilt from the changelog"):
            everything(tmp_path)

    def test_a_file_in_place_of_the_folder_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("not a folder")
        with pytest.raises(StorageError, match="state"):
            RocksStore(tmp_path / "state")


def filled(path: Path) -> None:
    """A store whose rows are in a table of their own, not in the write-ahead log."""
    store = RocksStore(path)
    store.write({b"%06d" % number: random.Random(number).randbytes(50) for number in range(5_000)})
    store.close()
    RocksStore(path).close()
    assert list(path.glob("*.sst"))


def everything(path: Path) -> list[tuple[bytes, bytes]]:
    store = RocksStore(path)
    try:
        return list(store.scan(b""))
    finally:
        store.close()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_killed_process_takes_nothing_away_that_write_returned_for(tmp_path: Path) -> None:
    # write n-1 ... said ... write n ... said ... write n+1 ... KILL      there afterwards: n or n+1, as a whole
    choice = random.Random(20240304)
    number = 0
    for _ in range(5):
        writer = process(WRITER, tmp_path, number + 1, KEYS_AT_ONCE)
        said = [writer.next_line() for _ in range(choice.randrange(1, 200))]
        said += writer.kill().splitlines()
        last = int(said[-1])
        assert last > number
        content = everything(tmp_path)
        assert content in (written(last), written(last + 1))
        number = last if content == written(last) else last + 1


class MemoryModel(StoreModel):
    can_reopen = False

    def opened(self) -> Store:
        return MemoryStore()


class RocksModel(StoreModel):
    can_reopen = True

    def __init__(self) -> None:
        self.folder = TemporaryDirectory()
        super().__init__()

    def opened(self) -> Store:
        return RocksStore(Path(self.folder.name))

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestMemoryModel = MemoryModel.TestCase
TestRocksModel = RocksModel.TestCase
TestMemoryModel.settings = settings(max_examples=50, stateful_step_count=20)
TestRocksModel.settings = settings(max_examples=10, stateful_step_count=20)
