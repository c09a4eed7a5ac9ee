"""JSON values of a body, however it is cut into parts."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kandle.ksqldb.http import Documents, Lines, Members, documents

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
VALUES = st.lists(
    st.lists(SCALARS, max_size=4) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=3), min_size=1, max_size=6
)


def read(reader: Documents, body: bytes, cuts: list[int]) -> list[object]:
    borders = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    found = [value for begin, end in pairwise(borders) for value in reader.feed(body[begin:end])]
    return found + reader.finish()


@given(VALUES, st.lists(st.integers(0, 10_000), max_size=12))
def test_values_do_not_depend_on_the_parts(values: list[object], cuts: list[int]) -> None:
    texts = [json.dumps(value, ensure_ascii=False).encode() for value in values]
    assert read(Lines(), b"\n".join(texts) + b"\n", cuts) == values
    assert read(Members(), b"[" + b",\n".join(texts) + b"]\n", cuts) == values


@given(VALUES, st.integers(1, 10_000))
def test_an_array_without_its_end_is_an_error_wherever_it_is_cut(values: list[object], cut: int) -> None:
    body = json.dumps(values, ensure_ascii=False).encode()
    with pytest.raises(ValueError):
        read(Members(), body[: cut % len(body)], [])


def test_numbers_with_a_point_are_exact() -> None:
    (found,) = Lines().feed(b"[1.500000,0.1,123456789012345678.123456]\n")
    assert list(map(str, found)) == ["1.500000", "0.1", "123456789012345678.123456"]
    (member,) = Members().feed(b"[[0.1]")
    assert member == [Decimal("0.1")]


@pytest.mark.parametrize(("body", "kind"), [(b'{"a":1}\n', Lines), (b' [{"a":1}', Members), (b"", Lines)])
def test_the_first_byte_says_which_form_it_is(body: bytes, kind: type) -> None:
    assert type(documents(body)) is kind
