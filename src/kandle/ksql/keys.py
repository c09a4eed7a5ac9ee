"""Keys of several columns as one text, since ksqlDB joins on single columns only.

The texts of the parts stand behind each other with `|` between them. In all parts but the last `%` is written `%25` and `|` is
written `%7C`, so that no two keys have the same text. What kandle itself writes into such a key (`key_text`) is what ksqlDB
computes (`key_expression`).
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from kandle.errors import QueryError
from kandle.ksql.terms import Term, plain, strict
from kandle.ksql.types import VARCHAR
from kandle.model.types import DataType, DecimalType
from kandle.time.timeframe import MILLISECOND, to_instant

SEPARATOR = "|"
ESCAPES = (("%", "%25"), ("|", "%7C"))

_EXPRESSIONS: dict[str, str] = {
    "VARCHAR": "{0}",
    "BOOLEAN": "CASE WHEN {0} THEN 'true' ELSE 'false' END",
    "INTEGER": "CAST({0} AS VARCHAR)",
    "BIGINT": "CAST({0} AS VARCHAR)",
    "DECIMAL": "CAST({0} AS VARCHAR)",
    "DATE": "FORMAT_DATE({0}, 'yyyy-MM-dd')",
    "TIMESTAMP": "CAST(UNIX_TIMESTAMP({0}) AS VARCHAR)",
    "BYTES": "FROM_BYTES({0}, 'base64')",
}


def key_expression(parts: Sequence[Term]) -> str:
    """The text of a key in ksqlDB, NULL where a part of it is: in a sum of texts NULL would be the word."""
    texts = [_text_of(part) for part in parts]
    escaped = [_escaped(text) if part.type.name == "VARCHAR" else text for text, part in zip(texts[:-1], parts, strict=False)]
    whole = f" + '{SEPARATOR}' + ".join([*escaped, texts[-1]])
    return plain(strict(whole, VARCHAR, parts)).text


def _text_of(part: Term) -> str:
    if part.type.name not in _EXPRESSIONS:
        raise QueryError(f"{part.text} is {part.type}, which cannot be a part of a key")
    return _EXPRESSIONS[part.type.name].format(part.text)


def _escaped(text: str) -> str:
    for sign, escape in ESCAPES:
        text = f"REPLACE({text}, '{sign}', '{escape}')"
    return text


def key_text(values: Sequence[Any], kinds: Sequence[DataType]) -> str:
    """The same text of the same key, from Python values."""
    texts = [_TEXTS[type(value)](value, kind) for value, kind in zip(values, kinds, strict=True)]
    for sign, escape in ESCAPES:
        texts[:-1] = [text.replace(sign, escape) for text in texts[:-1]]
    return SEPARATOR.join(texts)


def _decimal(value: Decimal, kind: DataType) -> str:
    assert isinstance(kind, DecimalType)
    return f"{value:.{kind.scale}f}"


_TEXTS: dict[type, Callable[[Any, DataType], str]] = {
    str: lambda value, kind: value,
    uuid.UUID: lambda value, kind: str(value),
    bool: lambda value, kind: str(value).lower(),
    int: lambda value, kind: str(value),
    Decimal: _decimal,
    date: lambda value, kind: value.isoformat(),
    datetime: lambda value, kind: str(to_instant(value) // MILLISECOND),
    bytes: lambda value, kind: base64.b64encode(value).decode(),
}
