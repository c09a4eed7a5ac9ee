"""Patterns of strftime as patterns of java.time."""

from __future__ import annotations

import re

from kandle.ksql.refusal import RefusedError

LETTERS = {
    "Y": "yyyy",
    "y": "yy",
    "m": "MM",
    "d": "dd",
    "j": "DDD",
    "H": "HH",
    "I": "hh",
    "M": "mm",
    "S": "ss",
    "f": "SSSSSSSSS",
    "3f": "SSS",
    "6f": "SSSSSS",
    "9f": "SSSSSSSSS",
    ".3f": ".SSS",
    ".6f": ".SSSSSS",
    ".9f": ".SSSSSSSSS",
    "-m": "M",
    "-d": "d",
    "-j": "D",
    "-H": "H",
    "-I": "h",
    "-M": "m",
    "-S": "s",
    "F": "yyyy-MM-dd",
    "T": "HH:mm:ss",
    "X": "HH:mm:ss",
    "D": "MM/dd/yy",
    "x": "MM/dd/yy",
    "R": "HH:mm",
    "z": "xx",
    ":z": "xxx",
}
"""Without those whose text depends on the region of ksqlDB's computer: names of months and days, AM and PM, weeks."""

TEXTS = {"Z": "UTC", "%": "%", "n": "\n", "t": "\t"}
"""What is always the same, since the instants are in UTC."""

_DIRECTIVE = re.compile(r"%([-.:]?[0-9]?[A-Za-z%])")
_LITERAL = re.compile(r"'[^']*'")
_SYNTAX = re.compile(r"[A-Za-z'\[\]{}#]")


def java_pattern(pattern: str) -> str:
    """The pattern of java.time that gives the same text."""
    written, literal = "", ""
    for position, part in enumerate(_DIRECTIVE.split(pattern)):
        if position % 2 and part not in TEXTS:
            written += _quoted(literal) + _letters(part, pattern)
            literal = ""
        else:
            literal += TEXTS[part] if position % 2 else _plain(part, pattern)
    return written + _quoted(literal)


def has_offset(pattern: str) -> bool:
    """Whether a pattern of java.time, as `java_pattern` gives it, reads the offset from UTC."""
    return "x" in _LITERAL.sub("", pattern)


def _plain(part: str, pattern: str) -> str:
    if "%" in part:
        raise RefusedError(f"the pattern {pattern!r} has a % without a letter that is known; a percent sign is written %%")
    return part


def _quoted(literal: str) -> str:
    """Text as it stands, in quotes where a sign in it would mean something."""
    return "'" + literal.replace("'", "''") + "'" if _SYNTAX.search(literal) else literal


def _letters(directive: str, pattern: str) -> str:
    if directive not in LETTERS:
        possible = ", ".join(f"%{letter}" for letter in (*LETTERS, *TEXTS))
        raise RefusedError(
            f"no pattern of ksqlDB gives what %{directive} in {pattern!r} gives, whatever the region of its computer; "
            f"possible are {possible}"
        )
    return LETTERS[directive]
