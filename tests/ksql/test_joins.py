"""The key of a join as one text: ksqlDB and kandle write the same text, and no two keys have the same."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pytest

from kandle.errors import QueryError
from kandle.ksql.joins import key_expression, key_text
from kandle.ksql.terms import Term
from kandle.ksql.types import BIGINT, BOOLEAN, DOUBLE, VARCHAR
from kandle.model.types import BOOLEAN as BOOL
from kandle.model.types import BYTES, DATE, INTEGER, STRING, TIMESTAMP, DecimalType


def test_a_key_of_several_parts_is_one_text_that_no_other_key_has() -> None:
    kinds = [STRING, STRING]
    keys = [("a|b", "c"), ("a", "b|c"), ("a%7Cb", "c"), ("a%257Cb", "c"), ("a", "b%7Cc")]
    assert len({key_text(key, kinds) for key in keys}) == len(keys)
    assert key_text(("b", "A"), kinds) == "b|A"
    assert key_text(("100%", "x|y"), kinds) == "100%25|x|y"
    others = (True, 7, Decimal("1.5"), date(2026, 3, 8), datetime.fromisoformat("2026-03-08T00:00:00.250Z"), b"\xff")
    assert (
        key_text(others, [BOOL, INTEGER, DecimalType(9, 2), DATE, TIMESTAMP, BYTES])
        == "true|7|1.50|2026-03-08|1772928000250|/w=="
    )
    one, two = Term("`a`", VARCHAR, nullable=False), Term("`b`", BIGINT, nullable=False)
    assert key_expression([one]) == "`a`"
    assert key_expression([two, one]) == "CAST(`b` AS VARCHAR) + '|' + `a`"
    flag = Term("`c`", BOOLEAN, nullable=False)
    assert key_expression([flag, two]) == "CASE WHEN `c` THEN 'true' ELSE 'false' END + '|' + CAST(`b` AS VARCHAR)"
    maybe = Term("`u`", VARCHAR, nullable=True)
    assert key_expression([two, maybe]) == "CASE WHEN `u` IS NOT NULL THEN CAST(`b` AS VARCHAR) + '|' + `u` END"
    with pytest.raises(QueryError, match="no exact text of DOUBLE, so it cannot be part of a key; cast it to int or Precision"):
        key_expression([Term("`d`", DOUBLE, nullable=False), one])
