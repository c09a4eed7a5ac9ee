"""One row per scalar function of the query language: its name and how its text is made of the texts of its arguments.

Terms come in and go out with ksqlDB's own types; the compiler casts where a value must have another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kandle.ksql.conditions import CONDITIONS, holds
from kandle.ksql.logic import negated
from kandle.ksql.numbers import NUMBERS
from kandle.ksql.operators import call, call_of_plain, cast
from kandle.ksql.refusal import RefusedError
from kandle.ksql.terms import Check, Term, guarded, only_where, plain
from kandle.ksql.texts import TEXTS
from kandle.ksql.times import TIMES
from kandle.ksql.types import BYTES, column_type
from kandle.query.nodes import Call

Builder = Callable[[Call, Sequence[Term]], Term]


def _coalesce(node: Call, terms: Sequence[Term]) -> Term:
    return call_of_plain("COALESCE", *(cast(term, column_type(node.type)) for term in terms))


def _null_if(node: Call, terms: Sequence[Term]) -> Term:
    value, other = terms
    same = holds("=", value, other)
    return plain(only_where(Check(negated(same), same), value))


def _extreme(name: str) -> Builder:
    def build(node: Call, terms: Sequence[Term]) -> Term:
        kind = column_type(node.type)
        if kind == BYTES:
            raise RefusedError(
                'ksqlDB takes bytes for signed numbers when it orders them; use role "live" with f.max or f.min of each'
            )
        found = call(name, *(cast(term, kind) for term in terms))
        return guarded(found.text, kind, terms)

    return build


SCALARS: dict[str, Builder] = {
    **CONDITIONS,
    **NUMBERS,
    **TEXTS,
    **TIMES,
    "coalesce": _coalesce,
    "null_if": _null_if,
    "greatest": _extreme("GREATEST"),
    "least": _extreme("LEAST"),
}
