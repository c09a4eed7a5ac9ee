"""Normalized keys: columns and single values have the same form, and functions that fail are named."""

from dataclasses import dataclass
from typing import Annotated

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kandle
from kandle import DataError, Key, ModelError
from kandle.model.columns import to_physical
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.model.markers import Normalizer
from kandle.model.normalizing import normalized_column, normalized_value


def first_word(text: str) -> str:
    return (text.split() or [""])[0]


@given(st.lists(st.none() | st.text(max_size=6), max_size=20), st.sampled_from([str.upper, str.lower, str.strip, first_word]))
def test_a_column_is_normalized_as_each_of_its_values_is(texts: list[str | None], normalize: Normalizer) -> None:
    normalized = normalized_column(normalize, pl.Series(texts, dtype=pl.String))
    assert normalized.column.to_list() == [None if text is None else normalized_value(normalize, text) for text in texts]
    assert not normalized.failures


def test_a_function_of_the_user_is_called_for_distinct_values_only() -> None:
    calls: list[str] = []

    def normalize(text: str) -> str:
        calls.append(text)
        return text

    normalized_column(normalize, pl.Series(["a", "b"] * 1000))
    assert len(calls) == 4  # once for each value, and once to see that its result stays as it is


def test_a_text_that_cannot_be_normalized_is_null_and_its_reason_is_known() -> None:
    def normalize(text: str) -> str:
        return str(int(text))

    normalized = normalized_column(normalize, pl.Series(["07", "x", None]))
    assert normalized.column.to_list() == ["7", None, None]
    assert list(normalized.failures) == ["x"]
    assert "normalize fails for 'x': ValueError" in normalized.failures["x"]


@pytest.mark.parametrize(
    ("normalize", "problem"),
    [
        (lambda text: text + "!", "normalize changes 'a!', which it has made of 'a'"),
        (lambda text: 7, "normalize makes 7 of 'a', which is no str"),
    ],
)
def test_a_function_that_gives_no_lasting_text_is_an_error(normalize: Normalizer, problem: str) -> None:
    with pytest.raises(DataError) as error:
        normalized_value(normalize, "a")
    assert problem in str(error.value)


@kandle.stream("ticks")
@dataclass(frozen=True)
class Tick:
    symbol: Annotated[str, Key(0, normalize=str.upper), kandle.MaxLength(2)]
    size: int


def test_objects_and_frames_are_written_with_normalized_keys() -> None:
    whole = mapping(entity_model(Tick))
    assert whole.row(Tick("ab", 1)) == ("AB", 1)
    assert whole.key(Tick("ab", 1)) == ("AB",)
    assert to_physical(entity_model(Tick), pl.DataFrame({"symbol": ["ab", "Ab"], "size": [1, 2]}))["symbol"].to_list() == [
        "AB",
        "AB",
    ]


def test_a_text_that_is_too_long_once_it_is_normalized_is_named() -> None:
    with pytest.raises(DataError, match=r"Tick.symbol = 'aß' becomes 'ASS', which is longer than 2 characters"):
        mapping(entity_model(Tick)).row(Tick("aß", 1))


def test_only_text_is_normalized() -> None:
    @kandle.stream("numbers")
    @dataclass(frozen=True)
    class Number:
        number: Annotated[int, Key(0, normalize=str.upper)]

    with pytest.raises(ModelError, match=r"Number.number: normalize is for key parts of type str, not int"):
        entity_model(Number)
    with pytest.raises(ModelError, match="give a function of a text"):
        Key(0, normalize="upper")  # type: ignore[arg-type]
