"""How the result of a query is described: its target and its order."""

from __future__ import annotations

from typing import TypeVar
from typing import cast as typed

T = TypeVar("T")


def new(target: type[T], **fields: object) -> T:
    """Describe the result of a `select` without building it.

    Use it for classes that check or convert their values when they are built, such as pydantic models or
    dataclasses with `__post_init__`: while a query is recorded there are only expressions, no values. The
    fields are checked when the model is built.

    Args:
        target: The entity that the query makes.
        fields: The expression of each field.

    Returns:
        A description of the object, for `select` only.

    Example:
        `.select(lambda t, w: f.new(Bar, symbol=t.symbol, start=w.start, high=f.max(t.price)))`
    """
    return typed(T, NewTarget(target, fields))


class NewTarget:
    """A target of `select` that is not built while the query is recorded."""

    def __init__(self, target: type, fields: dict[str, object]) -> None:
        self.target = target
        self.fields = fields


def descending(x: T) -> T:
    """Order by a field from its largest to its smallest value.

    Args:
        x: A field of the result.

    Returns:
        A description of the order, for `order_by` only.

    Example:
        `.order_by(lambda b: (f.descending(b.volume), b.symbol))`
    """
    return typed(T, Descending(x))


class Descending:
    """A field to order by, largest value first."""

    def __init__(self, value: object) -> None:
        self.value = value
