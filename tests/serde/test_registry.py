from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.errors import SchemaError
from kandle.serde.compatibility import Compatibility
from kandle.serde.registry import EmbeddedRegistry, JournalEntry, MemoryJournal
from tests.serde.building import record


def schema(*names: str, kind: str = "int", default: Any = None) -> str:
    """Return a record; fields have a default if one is given."""
    result = record(*((name, kind) for name in names), name="r")
    if default is not None:
        for value in result["fields"]:
            value["default"] = default
    return json.dumps(result)


def test_a_schema_has_one_number_for_ever() -> None:
    journal = MemoryJournal()
    first, second = EmbeddedRegistry(journal), EmbeddedRegistry(journal)
    number = first.register("a-value", schema("x"))
    assert second.register("a-value", schema("x")) == number
    assert second.register("b-value", schema("x")) == number
    assert EmbeddedRegistry(journal).schema(number) == first.schema(number)
    assert [entry.subject for entry in journal.load(0)] == ["a-value", "b-value"]


def test_spaces_and_documentation_make_no_new_schema() -> None:
    registry = EmbeddedRegistry(MemoryJournal())
    documented = json.loads(schema("x")) | {"doc": "ticks"}
    assert registry.register("a", schema("x")) == registry.register("a", json.dumps(documented, indent=1))


def test_an_unknown_number_and_an_unknown_subject_are_none() -> None:
    registry = EmbeddedRegistry(MemoryJournal())
    assert registry.schema(1) is None
    assert registry.latest("a") is None


def test_the_newest_schema_is_the_latest_version() -> None:
    registry = EmbeddedRegistry(MemoryJournal())
    registry.register("other", schema("y"))
    registry.register("a", schema("x"))
    number = registry.register("a", schema("x", "y", default=0))
    latest = registry.latest("a")
    assert latest is not None
    assert (latest.subject, latest.version, latest.number) == ("a", 2, number)
    assert [value["name"] for value in json.loads(latest.schema)["fields"]] == ["x", "y"]


def test_an_incompatible_schema_is_refused_by_name() -> None:
    journal = MemoryJournal()
    registry = EmbeddedRegistry(journal)
    registry.register("a-value", schema("x"))
    assert registry.differences("a-value", schema("x", "y")) == (
        "the new schema cannot read older records: field y was not written and has no default",
    )
    with pytest.raises(SchemaError, match=r"subject a-value: the schema is not backward compatible: .* field y was not written"):
        registry.register("a-value", schema("x", "y"))
    latest = registry.latest("a-value")
    assert latest is not None and latest.version == 1
    assert len(journal.load(0)) == 1


def test_without_a_rule_everything_is_taken() -> None:
    registry = EmbeddedRegistry(MemoryJournal(), Compatibility.NONE)
    registry.register("a", schema("x"))
    assert registry.register("a", schema("x", kind="string")) == 2


def test_an_older_schema_may_be_registered_again() -> None:
    registry = EmbeddedRegistry(MemoryJournal())
    first = registry.register("a", schema("x", "y"))
    registry.register("a", schema("x"))
    assert registry.differences("a", schema("x", "y")) == ()
    assert registry.register("a", schema("x", "y")) == first


def test_what_is_no_schema_is_never_written() -> None:
    journal = MemoryJournal()
    with pytest.raises(SchemaError, match="not an Avro schema"):
        EmbeddedRegistry(journal).register("a", '"strin"')
    assert journal.load(0) == []


class SlowJournal(MemoryJournal):
    """Lets another process write just before each record."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self._other: str | None = other

    def append(self, subject: str, text: str) -> None:
        if self._other is not None:
            other, self._other = self._other, None
            EmbeddedRegistry(self).register(subject, other)
        super().append(subject, text)


def test_the_same_schema_written_twice_at_once_has_the_number_of_the_first() -> None:
    journal = SlowJournal(schema("x"))
    number = EmbeddedRegistry(journal).register("a", schema("x"))
    assert len(journal.load(0)) == 2
    assert number == 1 == EmbeddedRegistry(journal).register("a", schema("x"))


def test_of_two_schemas_written_at_once_that_do_not_go_together_the_first_counts() -> None:
    journal = SlowJournal(schema("x", kind="string"))
    with pytest.raises(SchemaError, match="field x is int, but was written as string"):
        EmbeddedRegistry(journal).register("a", schema("x"))
    for registry in (EmbeddedRegistry(journal), EmbeddedRegistry(journal, Compatibility.NONE)):
        latest = registry.latest("a")
        assert latest is not None
        assert (latest.number, latest.version) == (1, 1)
        assert registry.schema(2) is None


def test_numbers_are_offsets_also_where_the_journal_has_holes() -> None:
    class Sparse(MemoryJournal):
        """Every second offset is something else, such as the marker of a transaction."""

        def load(self, offset: int) -> list[JournalEntry]:
            value = [JournalEntry(2 * entry.offset, entry.subject, entry.text) for entry in super().load(0)]
            return [entry for entry in value if entry.offset >= offset]

    registry = EmbeddedRegistry(Sparse(), Compatibility.NONE)
    assert [registry.register("a", schema(name)) for name in "xyz"] == [1, 3, 5]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from("xyz"), unique=True, min_size=1)), max_size=12))
def test_all_processes_see_the_same_schemas(wanted: list[tuple[str, list[str]]]) -> None:
    journal = MemoryJournal()
    registries = [EmbeddedRegistry(journal), EmbeddedRegistry(journal, Compatibility.FULL), EmbeddedRegistry(journal)]
    taken = {}
    for at, (subject, names) in enumerate(wanted):
        try:
            taken[subject, tuple(names)] = registries[at % 3].register(subject, schema(*names))
        except SchemaError:
            continue
    for registry in [*registries, EmbeddedRegistry(journal)]:
        for (subject, registered), number in taken.items():
            assert registry.register(subject, schema(*registered)) == number
            assert [value["name"] for value in json.loads(registry.schema(number) or "")["fields"]] == list(registered)


def test_threads_share_a_registry() -> None:
    registry = EmbeddedRegistry(MemoryJournal())
    numbers: list[tuple[str, int]] = []

    def work() -> None:
        for name in "abcdefgh":
            numbers.append((name, registry.register(name, schema(name))))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(numbers)) == 8 == len({number for _, number in numbers})
