"""Quotients of decimals: what ksqlDB computes on the way to them always fits the digits that it computes with."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from kandle.ksql.numbers import rounded_quotient
from kandle.ksql.operators import as_decimal
from kandle.ksql.terms import Term
from kandle.ksql.types import BIGINT, INTEGER, KsqlType, decimal
from kandle.model.types import DecimalType
from tests.ksql.rows import server_type
from tests.ksqldb.simulator.expressing import type_of

DECIMALS = st.integers(1, 38).flatmap(lambda precision: st.builds(decimal, st.just(precision), st.integers(0, precision)))


@given(DECIMALS, DECIMALS | st.sampled_from([BIGINT, INTEGER]), st.integers(0, 18))
def test_a_remainder_has_all_digits_of_the_whole_quotient(left: KsqlType, right: KsqlType, scale: int) -> None:
    """ksqlDB computes left % step with as many digits as the result has, and the whole quotient must fit them as well."""
    quotient = rounded_quotient(Term("`x`", left, False), Term("`y`", right, False), DecimalType(38, scale))
    columns = {"x": server_type(left), "y": server_type(right)}
    step = re.fullmatch(r"CAST\(\(`x` - `x` % (.*)\) / `y` AS DECIMAL\(38,\d+\)\)", quotient.text)
    assert step is not None
    whole_quotient = left.whole + as_decimal(right).scale + scale + 1
    assert type_of(f"`x` % {step[1]}", columns).precision >= whole_quotient
    assert type_of(step[1], columns).scale == as_decimal(right).scale + scale + 1
    assert type_of(quotient.text, columns) == server_type(decimal(38, scale))
