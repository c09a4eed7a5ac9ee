"""Mapping of objects: checked values, physical rows, and back."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any

import pytest

import kandle
from kandle import Ignore, Key, Precision
from kandle.errors import DataError
from kandle.model.columns import to_logical
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from tests.model.rows import MODEL, Row

FULL = Row(
    "a", datetime(2024, 3, 8, 14, 30, tzinfo=timezone(timedelta(hours=2))), Decimal("1.5"), None, 7, 0.5, True, date(2024, 1, 1),
    uuid.UUID(int=5), "note", datetime(2024, 1, 1, tzinfo=UTC), None,
)  # fmt: skip


def test_an_object_becomes_values_and_a_frame_and_comes_back() -> None:
    values = mapping(MODEL).values(FULL)
    assert (list(values)[:2], values["whole"]) == (["name", "at"], 7)
    assert mapping(MODEL).key(FULL) == ("a",)
    assert mapping(MODEL).populate(values) == FULL
    assert mapping(MODEL).from_frame(mapping(MODEL).to_frame([FULL])) == [FULL]


def test_values_that_are_missing_are_named_unless_they_have_a_default() -> None:
    with pytest.raises(DataError, match=r"Row needs values for name, at$"):
        mapping(MODEL).populate({})


OBJECTS: list[tuple[dict[str, Any], str]] = [
    ({"name": "abcdefg"}, r"Row\.name = 'abcdefg' is longer than 6 characters"),
    ({"name": 5}, r"Row\.name = 5 is not a str"),
    ({"name": None}, r"Row\.name is None, but the field is not Optional"),
    ({"at": datetime(2024, 1, 1)}, r"Row\.at = .* has no time zone"),
    ({"amount": Decimal("0.000001")}, r"has 6 digits behind the point \(Decimal\(18, 5\)\)"),
    ({"amount": Decimal(10) ** 13}, r"too many digits before the point"),
    ({"amount": 1.5}, r"is of type float, not Decimal; write Decimal\('1\.5'\)"),
    ({"real": float("nan")}, r"Row\.real = nan is not a finite number"),
    ({"real": 10**400}, r"is too large for a float"),
    ({"real": "1.5"}, r"is not a float or int"),
    ({"whole": 2**63}, r"does not fit 64 bits"),
    ({"whole": True}, r"is not an int"),
    ({"flag": 1}, r"is not a bool"),
    ({"day": datetime(2024, 1, 1, tzinfo=UTC)}, r"is not a date"),
    ({"identity": "x"}, r"is not a UUID"),
]


@pytest.mark.parametrize(("changes", "message"), OBJECTS)
def test_an_object_that_does_not_fit_names_entity_field_and_value(changes: dict[str, Any], message: str) -> None:
    wrong = replace(FULL, **changes)
    with pytest.raises(DataError, match=message):
        mapping(MODEL).values(wrong)
    with pytest.raises(DataError, match=f"object 1: .*{message}"):
        mapping(MODEL).to_frame([FULL, wrong])


def test_an_object_of_another_class_is_refused() -> None:
    with pytest.raises(DataError, match="object 0: 5 is of type int, not Row"):
        mapping(MODEL).to_frame([5])


@kandle.table("checked")
@dataclass
class Checked:
    """A class whose objects are more than their fields."""

    name: Annotated[str, Key(0)]
    amount: Annotated[Decimal, Precision(30, 2)]
    seen: Annotated[int, Ignore()] = 3
    doubled: Annotated[str, Ignore()] = dataclasses.field(init=False, default="")

    def __post_init__(self) -> None:
        self.doubled = self.name * 2


@kandle.table("loose")
@dataclass
class Loose:
    """A class whose fields can be set, with values of its own way to take them."""

    name: Annotated[str, Key(0)]
    amount: int

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value.upper() if isinstance(value, str) else value)


@kandle.table("plain")
@dataclass(frozen=True, slots=True, order=True)
class Plain:
    name: Annotated[str, Key(0)]
    amounts: dict[str, str]
    wide: Annotated[Decimal, Precision(38, 3)]
    day: date | None = None


PLAIN = [
    Plain("a", {"x": "y"}, Decimal("12345678901234567890123456789012345.678"), date(1960, 1, 2)),
    Plain("b", {}, Decimal("-0.001")),
]


@pytest.mark.parametrize(
    "objects",
    [[Checked("a", Decimal("1.50")), Checked("b", Decimal("2.00"))], [Loose("a", 1), Loose("b", 2)], PLAIN],
)
def test_objects_come_back_as_their_class_makes_them(objects: list[Any]) -> None:
    whole = mapping(entity_model(type(objects[0])))
    frame = whole.to_frame(objects)
    back = whole.from_frame(frame)
    assert back == objects
    assert [repr(obj) for obj in back] == [repr(obj) for obj in objects]
    assert whole.from_frame(to_logical(whole.entity, frame)) == objects
    assert whole.from_frame(frame.clear()) == []
