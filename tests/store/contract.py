"""What every adapter of the store port promises; each is tested by a class that inherits from `StoreContract`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kandle.errors import StorageError
from kandle.store.port import Store

# Few keys, so that they meet; among them the ends of the order of bytes and what begins like another.
KEYS = st.binary(max_size=3) | st.lists(st.sampled_from([b"\x00", b"a", b"b", b"\xff"]), max_size=3).map(b"".join)
VALUES = st.binary(max_size=9)
EDGES = [b"", b"\x00", b"a", b"a\x00", b"ab", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\x01", b"\xff\xff", b"\xff\xff\x01"]


class StoreContract:
    """Subclasses give an empty `store` fixture, which they close."""

    def test_an_empty_store_has_nothing(self, store: Store) -> None:
        assert store.get(b"a") is None
        assert list(store.scan(b"")) == []

    def test_what_was_put_is_there_until_it_is_deleted(self, store: Store) -> None:
        store.write({b"a": b"1", b"b": b"2"})
        store.write({b"b": b"3"}, [b"a"])
        assert (store.get(b"a"), store.get(b"b")) == (None, b"3")

    def test_an_empty_value_is_not_an_absent_one(self, store: Store) -> None:
        store.write({b"a": b""})
        assert store.get(b"a") == b""
        assert list(store.scan(b"a")) == [(b"a", b"")]

    def test_a_key_that_is_put_and_deleted_at_once_is_there(self, store: Store) -> None:
        store.write({b"a": b"1"})
        store.write({b"a": b"2"}, [b"a"])
        assert store.get(b"a") == b"2"

    def test_what_is_not_there_can_be_deleted(self, store: Store) -> None:
        store.write({}, [b"a"])
        assert store.get(b"a") is None

    def test_bytes_of_any_size_and_kind_are_kept(self, store: Store) -> None:
        key, value = bytes(range(256)) * 20, bytes(range(256)) * 20_000
        store.write({key: value})
        assert store.get(key) == value

    @pytest.mark.parametrize("prefix", EDGES)
    def test_a_scan_gives_just_the_keys_with_the_prefix_in_the_order_of_bytes(self, store: Store, prefix: bytes) -> None:
        store.write({key: b"<" + key for key in reversed(EDGES)})
        assert list(store.scan(prefix)) == [(key, b"<" + key) for key in sorted(EDGES) if key.startswith(prefix)]

    def test_writes_after_a_scan_began_do_not_show_in_it(self, store: Store) -> None:
        before = {b"a": b"1", b"b": b"2", b"c": b"3"}
        store.write(before)
        unread, begun = store.scan(b""), store.scan(b"")
        first = next(begun)
        store.write({b"aa": b"new", b"c": b"changed"}, [b"b"])
        assert [first, *begun] == list(unread) == sorted(before.items())
        assert list(store.scan(b"")) == [(b"a", b"1"), (b"aa", b"new"), (b"c", b"changed")]

    def test_a_scan_that_has_ended_stays_at_its_end(self, store: Store) -> None:
        store.write({b"a": b"1"})
        scan = store.scan(b"")
        assert list(scan) == [(b"a", b"1")]
        assert list(scan) == []

    def test_what_a_scan_gives_can_be_deleted_meanwhile(self, store: Store) -> None:
        store.write({bytes([number]): b"" for number in range(100)})
        for key, _ in store.scan(b""):
            store.write({}, [key])
        assert list(store.scan(b"")) == []

    def test_a_write_that_fails_changes_nothing(self, store: Store) -> None:
        store.write({b"a": b"1"})
        with pytest.raises(RuntimeError, match="no more"):
            store.write(Failing(), [b"a"])
        assert list(store.scan(b"")) == [(b"a", b"1")]

    def test_a_closed_store_refuses_everything_but_to_be_closed_again(self, store: Store) -> None:
        store.write({b"a": b"1"})
        store.close()
        store.close()
        for call in (lambda: store.get(b"a"), lambda: list(store.scan(b"")), lambda: store.write({b"a": b"2"})):
            with pytest.raises(StorageError, match="is closed"):
                call()

    def test_a_scan_does_not_seem_to_end_when_its_store_is_closed(self, store: Store) -> None:
        store.write({b"a": b"1", b"b": b"2"})
        scan = store.scan(b"")
        assert next(scan) == (b"a", b"1")
        store.close()
        with pytest.raises(StorageError, match="closed"):
            next(scan)


class Failing(Mapping[bytes, bytes]):
    """Puts that fail after the first, as when they are computed on the way."""

    def __getitem__(self, key: bytes) -> bytes:
        return b"2"

    def __iter__(self) -> Iterator[bytes]:
        yield b"b"
        raise RuntimeError("no more")

    def __len__(self) -> int:
        return 2


class StoreModel(RuleBasedStateMachine):
    """Any run of calls leaves a store as it leaves a dict; subclasses say how one is opened."""

    can_reopen: ClassVar[bool]

    def opened(self) -> Store:
        """The store, with what was written to it so far."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.store = self.opened()
        self.model: dict[bytes, bytes] = {}

    @rule(puts=st.dictionaries(KEYS, VALUES, max_size=5), deletes=st.lists(KEYS, max_size=3))
    def write(self, puts: Mapping[bytes, bytes], deletes: list[bytes]) -> None:
        self.store.write(puts, deletes)
        self.model = {key: value for key, value in self.model.items() if key not in deletes} | dict(puts)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.model.get(key)

    @rule(prefix=KEYS)
    def scan(self, prefix: bytes) -> None:
        assert list(self.store.scan(prefix)) == sorted(item for item in self.model.items() if item[0].startswith(prefix))

    @rule(prefix=KEYS)
    def leave_a_scan(self, prefix: bytes) -> None:
        next(self.store.scan(prefix), None)

    @precondition(lambda self: self.can_reopen)
    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.opened()

    @invariant()
    def all_is_there(self) -> None:
        assert list(self.store.scan(b"")) == sorted(self.model.items())

    def teardown(self) -> None:
        self.store.close()
