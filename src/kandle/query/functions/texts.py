"""Functions of text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar
from typing import cast as typed

from kandle.errors import QueryError
from kandle.query.functions.recorded import check_constants, display, record_call

Number = TypeVar("Number", int, float, Decimal)


def upper(x: str) -> str:
    """Convert a text to upper case.

    Args:
        x: A text.

    Returns:
        The text in upper case.
    """
    return typed(str, record_call("upper", x))


def lower(x: str) -> str:
    """Convert a text to lower case.

    Args:
        x: A text.

    Returns:
        The text in lower case.
    """
    return typed(str, record_call("lower", x))


def trim(x: str) -> str:
    """Remove white space from both ends of a text.

    Args:
        x: A text.

    Returns:
        The text without leading and trailing white space.
    """
    return typed(str, record_call("trim", x))


def length(x: str) -> int:
    """Count the characters of a text.

    Args:
        x: A text.

    Returns:
        The number of characters.
    """
    return typed(int, record_call("length", x))


def substring(x: str, start: int, length: int | None = None) -> str:
    """Return a part of a text.

    Args:
        x: A text.
        start: Position of the first character, counted from 1.
        length: Number of characters; to the end of the text if it is left out.

    Returns:
        The part; shorter than `length` where the text ends.

    Example:
        `f.substring(t.symbol, 1, 3)`
    """
    first_position: object = start
    if isinstance(first_position, int) and first_position < 1:
        raise QueryError(f"f.substring({display(x)}, {start}): characters are counted from 1; write {_shown_start(x, length)}")
    if isinstance(length, int) and length < 0:
        raise QueryError(f"f.substring({display(x)}, {start}, {length}): the length must be 0 or more")
    return typed(str, record_call("substring", x, start) if length is None else record_call("substring", x, start, length))


def concat(x: str, *others: str) -> str:
    """Join texts; the operator `+` does the same for two.

    Args:
        x: A text.
        others: More texts, at least one.

    Returns:
        The joined text; NULL if one of the texts is NULL.

    Example:
        `f.concat(t.venue, ":", t.symbol)`
    """
    return typed(str, record_call("concat", x, *others))


def replace(x: str, old: str, new: str) -> str:
    """Replace every occurrence of a part of a text.

    Args:
        x: A text.
        old: The part to replace, a constant; not a pattern.
        new: The text to put in its place.

    Returns:
        The changed text.
    """
    check_constants("replace", old=old)
    return typed(str, record_call("replace", x, old, new))


def starts_with(x: str, prefix: str) -> bool:
    """Test whether a text starts with a prefix.

    Args:
        x: A text.
        prefix: The prefix; not a pattern.

    Returns:
        True or False.

    Example:
        `.where(lambda t: f.not_(f.starts_with(t.symbol, "TEST")))`
    """
    return typed(bool, record_call("starts_with", x, prefix))


def ends_with(x: str, suffix: str) -> bool:
    """Test whether a text ends with a suffix.

    Args:
        x: A text.
        suffix: The suffix; not a pattern.

    Returns:
        True or False.
    """
    return typed(bool, record_call("ends_with", x, suffix))


def contains(x: str, part: str) -> bool:
    """Test whether a text contains another text.

    Args:
        x: A text.
        part: The text to search for; not a pattern.

    Returns:
        True or False.
    """
    return typed(bool, record_call("contains", x, part))


def index_of(x: str, part: str) -> int:
    """Return the position of the first occurrence of a part of a text.

    Args:
        x: A text.
        part: The text to search for; not a pattern.

    Returns:
        The position of its first character, counted from 1; 0 if the text does not contain it.
    """
    return typed(int, record_call("index_of", x, part))


def left_pad(x: str, length: int, fill: str = " ") -> str:
    """Extend a text at its start to a fixed length, or cut it to that length.

    Args:
        x: A text.
        length: Number of characters of the result, a constant.
        fill: The character to fill up with, a constant.

    Returns:
        A text of exactly `length` characters; a text that is too long loses its end.

    Example:
        `f.left_pad(t.number, 6, "0")`
    """
    return typed(str, _pad("left_pad", x, length, fill))


def right_pad(x: str, length: int, fill: str = " ") -> str:
    """Extend a text at its end to a fixed length, or cut it to that length.

    Args:
        x: A text.
        length: Number of characters of the result, a constant.
        fill: The character to fill up with, a constant.

    Returns:
        A text of exactly `length` characters; a text that is too long loses its end.
    """
    return typed(str, _pad("right_pad", x, length, fill))


def _shown_start(x: str, length: int | None) -> str:
    return f"f.substring({display(x)}, 1)" if length is None else f"f.substring({display(x)}, 1, {length})"


def _pad(function: str, x: str, length: int, fill: str) -> Any:
    check_constants(function, length=length, fill=fill)
    if isinstance(length, int) and length < 0:
        raise QueryError(f"f.{function}({display(x)}, {length}): the length must be 0 or more")
    if isinstance(fill, str) and len(fill) != 1:
        raise QueryError(f"f.{function}({display(x)}, {length}, {fill!r}): fill must be one character")
    return record_call(function, x, length, fill)
