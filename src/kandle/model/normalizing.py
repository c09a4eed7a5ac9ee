"""Normalized key parts: all spellings of a text in one form, for single values and for columns.

`str.upper`, `str.lower` and `str.strip` run on whole columns; any other function is called once for each distinct value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from kandle.errors import DataError
from kandle.model.markers import Normalizer

WHITESPACE = "".join(character for character in map(chr, range(0x3001)) if character.isspace())
"""What `str.strip` removes, which is more than Polars calls white space."""

COLUMNAR: Mapping[Normalizer, Callable[[pl.Series], pl.Series]] = {
    str.upper: lambda column: column.str.to_uppercase(),
    str.lower: lambda column: column.str.to_lowercase(),
    str.strip: lambda column: column.str.strip_chars(WHITESPACE),
}
"""How known functions run on columns; upper and lower case beyond ASCII follow the Unicode version of Python, value by value."""


@dataclass(frozen=True, slots=True)
class NormalizedColumn:
    """A column in normalized form; NULL where that cannot be made of a text, which `failures` says by the text."""

    column: pl.Series
    failures: Mapping[str, str] = field(default_factory=dict)


def normalized_value(normalize: Normalizer, value: str) -> str:
    """Return a text in normalized form.

    Args:
        normalize: The function of the key part.
        value: The text.

    Raises:
        DataError: The function fails, does not return text, or changes what it has returned itself; says which.
    """
    result = _applied(normalize, value)
    if _applied(normalize, result) != result:
        raise DataError(f"normalize changes {result!r}, which it has made of {value!r}; a normalized text must stay as it is")
    return result


def _applied(normalize: Normalizer, value: str) -> str:
    try:
        result = normalize(value)
    except Exception as error:
        raise DataError(f"normalize fails for {value!r}: {type(error).__name__}: {error}") from error
    if not isinstance(result, str):
        raise DataError(f"normalize makes {result!r} of {value!r}, which is no str")
    return result


def normalized_column(normalize: Normalizer, column: pl.Series) -> NormalizedColumn:
    """Return a column of text in normalized form.

    Args:
        normalize: The function of the key part.
        column: Text; NULL stays NULL.
    """
    known = COLUMNAR.get(normalize)
    if known is not None and (normalize is str.strip or _is_ascii(column)):
        return NormalizedColumn(known(column))
    values = column.drop_nulls().unique()
    results: dict[str, str | None] = {}
    failures: dict[str, str] = {}
    for value in values.to_list():
        try:
            results[value] = normalized_value(normalize, value)
        except DataError as error:
            results[value], failures[value] = None, str(error)
    if not results:
        return NormalizedColumn(column)
    replaced = column.replace_strict(list(results), list(results.values()), default=None, return_dtype=pl.String)
    return NormalizedColumn(replaced, failures)


def _is_ascii(column: pl.Series) -> bool:
    return bool((column.str.len_bytes() == column.str.len_chars()).all())
