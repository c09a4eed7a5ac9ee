"""Entities: what classes, annotations and decorators say, and what they must not."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Optional

import attrs
import pytest
from pydantic import BaseModel

import kandle
from kandle import Alias, DatetimeFormat, Header, Ignore, Key, MaxLength, Precision, Timestamp
from kandle.errors import ModelError
from kandle.model.entity import BarTopics, EntityModel, entity_model, snake_case


@kandle.stream("everything", partitions=3, replication=2, retention="7d")
@dataclass(frozen=True, slots=True)
class Everything:
    second: Annotated[int, Key(1)]
    first: Annotated[str, Key(0), MaxLength(5)]
    at: Annotated[datetime, Timestamp(), DatetimeFormat("epoch_ms")]
    amount: Annotated[Decimal | None, Precision(20, 4), Alias("value", "amt")]
    perhaps: Optional[Annotated[Decimal, Precision(9, 2)]]  # noqa: UP045
    ratio: float
    flag: bool
    day: date
    identity: uuid.UUID
    raw: bytes
    labels: dict[str, str]
    skipped: Annotated[list[int], Ignore()] = field(default_factory=list)
    also_skipped: Annotated[object, Ignore] = None


def test_every_type_and_marker_is_understood() -> None:
    model = entity_model(Everything)
    types = {field.name: (str(field.type), field.nullable) for field in model.fields}
    assert types == {
        "second": ("int", False),
        "first": ("str", False),
        "at": ("datetime", False),
        "amount": ("Decimal(20, 4)", True),
        "perhaps": ("Decimal(9, 2)", True),
        "ratio": ("float", False),
        "flag": ("bool", False),
        "day": ("date", False),
        "identity": ("UUID", False),
        "raw": ("bytes", False),
        "labels": ("dict[str, str]", False),
    }
    assert [key.name for key in model.keys] == ["first", "second"]
    assert model.timestamp is not None
    assert (model.timestamp.name, model.timestamp.datetime_format) == ("at", "epoch_ms")
    assert model.field("amount").aliases == ("value", "amt")
    assert (model.partitions, model.replication, model.retention) == (3, 2, 7 * 86_400 * 1_000_000)
    assert len(model.values) == 9


def test_dataclasses_attrs_classes_and_pydantic_models_are_entities() -> None:
    @attrs.frozen
    class WithAttrs:
        name: Annotated[str, Key(0)]
        size: int = 3

    class WithPydantic(BaseModel):
        name: Annotated[str, Key(0)]
        size: int = 3

    @dataclass
    class WithDataclass:
        name: Annotated[str, Key(0)]
        size: int = 3

    models = [entity_model(kandle.table()(cls)) for cls in (WithAttrs, WithPydantic, WithDataclass)]
    assert [model.topic for model in models] == ["with_attrs", "with_pydantic", "with_dataclass"]
    assert len({model.fields for model in models}) == 1


def test_fields_of_a_base_class_come_first() -> None:
    @dataclass
    class Base:
        name: Annotated[str, Key(0)]

    @kandle.stream("derived")
    @dataclass
    class Derived(Base):
        size: int

    assert [field.name for field in entity_model(Derived).fields] == ["name", "size"]


def declared(annotations: dict[str, Any], topic: str | None = "t", **defaults: Any) -> EntityModel:
    body = {"__annotations__": annotations, **defaults}
    return entity_model(kandle.stream(topic)(dataclass(type("Wrong", (), body))))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"amount": Decimal}, r"Wrong\.amount is a Decimal without precision: write Annotated\[Decimal, Precision\(18, 6\)\]"),
    ({"amount": Annotated[Decimal, Precision(39, 2)]}, r"precision 39 is outside 1\.\.38"),
    ({"amount": Annotated[Decimal, Precision(5, 6)]}, r"scale 6 is outside 0\.\.5"),
    ({"x": complex}, r"Wrong\.x has type complex, which kandle does not know; use str, int"),
    ({"x": list[int]}, r"has type list\[int\]"),
    ({"x": int | str}, r"has type int \| str"),
    ({"x": Annotated[int, Key(1)]}, r"Wrong: key parts are numbered 1; number them 0, each number once$"),
    (
        {"x": Annotated[int, Key(0)], "y": Annotated[int, Key(0)]},
        r"key parts are numbered 0, 0; number them 0, 1, each number once$",
    ),
    ({"x": Annotated[int | None, Key(0)]}, r"a field marked Key cannot be Optional; write int without None"),
    ({"x": Annotated[float, Key(0)]}, r"float cannot be a part of a key"),
    ({"x": Annotated[datetime, Timestamp()], "y": Annotated[datetime, Timestamp()]}, r"2 fields marked Timestamp \(x, y\)"),
    ({"x": Annotated[int, Timestamp()]}, r"Wrong\.x: Timestamp is for fields of type datetime, not int$"),
    ({"x": Annotated[int, Precision(3, 1)]}, r"Precision is for fields of type Decimal, not int"),
    ({"x": Annotated[int, MaxLength(3)]}, r"MaxLength is for fields of type str, not int"),
    ({"x": Annotated[bytes | None, Header("x")]}, r"Header is for fields of type str, not bytes"),
    (
        {"x": Annotated[str, Header("x")]},
        r"a record may come without the header; write Annotated\[str \| None, Header\(\"x\"\)\]$",
    ),
    (
        {"x": Annotated[str | None, Header("h")], "y": Annotated[str | None, Header("h")]},
        r"Wrong: header 'h' stands for more than one field",
    ),
    (
        {"x": Annotated[datetime, DatetimeFormat("epoch_days")]},
        r"'epoch_days' is not a datetime format; write a strftime pattern or one of epoch_s, epoch_ms",
    ),
    ({"x": Annotated[int, Ignore()]}, r"Wrong\.x is marked Ignore, so it needs a default"),
    ({"x": int, "y": Annotated[int, Alias("x")]}, r"Wrong: name or alias 'x' stands for more than one field"),
    ({"x": Annotated[str, Key]}, r"Wrong\.x: Key needs an argument; write Key\(0\)$"),
    ({"x": Annotated[str, MaxLength]}, r"Wrong\.x: MaxLength needs an argument; write MaxLength\(12\)$"),
    ({"x": Annotated[str | None, Header("h"), Key(0)]}, r"Wrong\.x: a field marked Key cannot be Optional"),
    ({"x": Annotated[str, Header("h"), Key(0)]}, r"a field cannot be both a part of the key and a header"),
    ({}, r"Wrong has no fields"),
]


@pytest.mark.parametrize(("annotations", "message"), WRONG)
def test_a_wrong_declaration_says_what_to_write(annotations: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        declared(annotations)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (lambda: Key(-1), r"Key\(-1\): give an int of 0 or more, for example Key\(0\)"),
        (lambda: MaxLength(-1), r"MaxLength\(-1\): give an int of 1 or more, for example MaxLength\(12\)"),
        (lambda: MaxLength(2.5), r"MaxLength\(2\.5\): give an int of 1 or more"),  # type: ignore[arg-type]
    ],
)
def test_a_marker_refuses_a_count_that_cannot_be(marker: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        marker()


def test_the_settings_of_a_decorator_are_checked() -> None:
    with pytest.raises(ModelError, match=r"topic 't': partitions = 0; give 1 or more"):
        kandle.stream("t", partitions=0)
    with pytest.raises(ModelError, match=r"topic 't': value_format = 'XML'; choose one of AVRO, JSON, KAFKA"):
        kandle.table("t", value_format="XML")  # type: ignore[arg-type]


def test_a_class_without_a_decorator_is_no_entity() -> None:
    with pytest.raises(ModelError, match=r'int is not an entity: write @kandle\.stream\("topic"\)'):
        entity_model(int)
    with pytest.raises(ModelError, match=r"with parentheses"):
        kandle.stream(Everything)  # type: ignore[arg-type]


@pytest.mark.parametrize("topic", ["a b", "", "x" * 250, "ä"])
def test_a_topic_that_kafka_would_refuse_is_refused(topic: str) -> None:
    with pytest.raises(ModelError, match="topic name"):
        declared({"x": int}, topic)


def test_an_unknown_field_is_named_with_one_that_is_close() -> None:
    with pytest.raises(ModelError, match=r"Everything has no field 'amuont'; did you mean 'amount'\? Choose from: second, first"):
        entity_model(Everything).field("amuont")


def test_names() -> None:
    assert [snake_case(name) for name in ("QuoteBar", "HTTPLog", "bar", "Bar5m")] == ["quote_bar", "http_log", "bar", "bar5m"]
    assert BarTopics().names("bars", "5m") == ("bars_5m_live", "bars_5m_final")


def test_a_precision_that_cannot_be_names_the_field() -> None:
    @kandle.stream("wide")
    @dataclass(frozen=True)
    class Wide:
        price: Annotated[Decimal, Precision(50, 3)]

    with pytest.raises(ModelError, match=r"Wide\.price: decimal precision 50 is outside 1\.\.38"):
        entity_model(Wide)
