"""Keys as users give them: values or texts, whole first parts, and errors that name the part."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest

import kandle.testing
from kandle import Context, EventSet, Key, Timestamp
from kandle.errors import DataError
from kandle.model.entity import entity_model
from kandle.sets.keys import bar_key_fields, key_values, physical_key
from tests.sets.keyed import Keyed

ENTITY = entity_model(Keyed)
IDENTITY = UUID("12345678-1234-5678-1234-567812345678")
VALUES = ["x", 7, True, date(2024, 3, 8), Decimal("1.50"), IDENTITY, datetime(2024, 3, 8, 14, 30, tzinfo=UTC)]
TEXTS = ["x", "7", "true", "2024-03-08", "1.50", str(IDENTITY), "2024-03-08T14:30Z"]


@kandle.stream("bars")
@dataclass(frozen=True)
class StartFirst:
    start: Annotated[datetime, Timestamp(), Key(0)]
    symbol: Annotated[str, Key(1)]
    size: Annotated[int, Key(2)]


def of(key: Any) -> list[Any]:
    return list(key_values(ENTITY, ENTITY.keys, key).values())


def test_parts_are_values_or_texts_of_them() -> None:
    assert of(TEXTS) == of(VALUES) == VALUES
    assert list(key_values(ENTITY, ENTITY.keys, TEXTS)) == [field.name for field in ENTITY.keys]
    assert of([]) == of(()) == []


def test_a_single_text_is_one_part_and_not_its_letters() -> None:
    assert of("ACME") == of(["ACME"]) == of(("ACME",)) == ["ACME"]


def test_the_start_of_a_bar_is_the_last_part_of_its_key() -> None:
    bars = entity_model(StartFirst)
    fields = bar_key_fields(bars)
    assert [field.name for field in fields] == ["symbol", "size", "start"]
    at = datetime(2024, 3, 8, 14, 30, tzinfo=UTC)
    assert key_values(bars, fields, ["A", 1, "2024-03-08T14:30Z"]) == {"symbol": "A", "size": 1, "start": at}


class Keys(Context):
    keyed: EventSet[Keyed]


def test_the_key_of_a_message_has_the_values_of_its_object() -> None:
    key = ("x", 7, True, date(2024, 3, 8), Decimal("1.50"), IDENTITY, datetime(2024, 3, 8, 14, 30, tzinfo=UTC))
    with kandle.testing.context(Keys, start="2024-03-08T14:30Z") as keys:
        keys.keyed.add(Keyed(*key))
        message = next(iter(keys.keyed.messages()))
    assert message.key == key
    assert [type(part) for part in message.key] == [type(part) for part in key]


def test_values_of_storage_are_physical() -> None:
    assert physical_key(ENTITY, ENTITY.keys, TEXTS[:5])["amount"] == 150


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (["x", "seven"], r"key part Keyed\.number = 'seven' is not a whole number"),
        (["x", "7", "maybe"], r"key part Keyed\.flag = 'maybe' is not true or false"),
        (["x", "7", "true", "March"], r"key part Keyed\.day = 'March' is not a date such as 2024-03-08"),
        (["x", "7", "true", "2024-03-08", "1x"], r"key part Keyed\.amount = '1x' is not a decimal of at most 7 digits"),
        (["x", "7", "true", "2024-03-08", "1.234"], r"key part Keyed\.amount = '1\.234' "),
        (["x", "7", "true", "2024-03-08", "1", "u"], r"key part Keyed\.identity = 'u' is not a UUID"),
        ([5], r"key part Keyed\.text = 5 is not a str; give text"),
        ([None], r"key part Keyed\.text is None; give text"),
        (["x"] * 8, "the key parts of Keyed are text, number, flag, day, amount, identity, begins, but 8 were given: 'x', 'x', "),
    ],
)
def test_a_part_that_does_not_fit_is_named_with_what_is_expected(key: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        of(key)
