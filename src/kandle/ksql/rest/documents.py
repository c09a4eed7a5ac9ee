"""The JSON values of a body that comes in parts."""

from __future__ import annotations

import codecs
import json
from decimal import Decimal
from typing import Any, Protocol

from kandle.ksql.rest.failures import read_json

BLANK = b" \t\r\n"


class Documents(Protocol):
    """A reader of values; borders of parts may lie anywhere, also inside of a character."""

    def feed(self, part: bytes) -> list[Any]:
        """The values that are complete by now; ValueError for what is no JSON."""

    def finish(self) -> list[Any]:
        """Values that only the end of the body completes; ValueError if one is broken off."""


class Lines:
    """One value a line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[Any]:
        *lines, self._rest = (self._rest + part).split(b"\n")
        return [read_json(line) for line in lines if line.strip(BLANK)]

    def finish(self) -> list[Any]:
        rest, self._rest = self._rest, b""
        return [read_json(rest)] if rest.strip(BLANK) else []


class Members:
    """The members of one array, all of them arrays or objects."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder(parse_float=Decimal)
        self._characters = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._is_open = False
        self._is_over = False

    def feed(self, part: bytes) -> list[Any]:
        self._rest += self._characters.decode(part)
        found: list[Any] = []
        while self._at_member():
            try:
                value, end = self._decoder.raw_decode(self._rest)
            except json.JSONDecodeError:
                # The rest of the value is still to come, or never will.
                break
            found.append(value)
            self._rest = self._rest[end:]
        return found

    def _at_member(self) -> bool:
        """Go over what stands between members; whether one may follow."""
        rest = self._rest.lstrip()
        if not self._is_open and rest.startswith("["):
            self._is_open, rest = True, rest[1:].lstrip()
        rest = rest.removeprefix(",").lstrip()
        if rest.startswith("]"):
            self._is_over, rest = True, rest[1:].lstrip()
        self._rest = rest
        return bool(rest) and not self._is_over

    def finish(self) -> list[Any]:
        if not self._is_over or self._rest:
            raise ValueError("the array is broken off" if not self._is_over else "there is more behind the array")
        return []


def documents(beginning: bytes) -> Documents:
    """The reader for a body that begins so: queries give lines, or an array if something in between wants it so."""
    return Members() if beginning.lstrip(BLANK).startswith(b"[") else Lines()
