"""Functions of text."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from tests.ksqldb.simulator.errors import RowFailedError, UnreadError


def _substring(text: str, start: int, length: int | None = None) -> str:
    """From a place counted from 1, or from the end with a minus; what lies outside is cut."""
    first = max(len(text) + start, 0) if start < 0 else max(min(start - 1, len(text)), 0)
    return text[first:] if length is None else text[first : max(min(first + length, len(text)), first)]


def _instr(text: str | None, wanted: str | None, start: int = 1, occurrence: int = 1) -> int:
    """Where the text stands, counted from 1; 0 if nowhere; with a negative start the search goes back from there."""
    if start == 0 or occurrence < 1:
        raise UnreadError("INSTR from 0, or an occurrence before the first")
    if text is None or wanted is None or abs(start) > len(text):
        return 0
    last = len(text) - len(wanted)
    candidates = range(start - 1, last + 1) if start > 0 else range(last + 1 + start, -1, -1)
    positions = [position for position in candidates if text.startswith(wanted, position)]
    return positions[occurrence - 1] + 1 if occurrence <= len(positions) else 0


def _padded(text: str, length: int, padding: str, left: bool) -> str | None:
    if length < 0 or not padding:
        return None
    fill = (padding * length)[: max(length - len(text), 0)]
    return fill + text[:length] if left else text[:length] + fill


def _mask(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "-", re.sub(r"[0-9]", "n", re.sub(r"[a-z]", "x", re.sub(r"[A-Z]", "X", text))))


DECODERS: dict[str, Callable[[str], bytes]] = {
    "utf8": str.encode,
    "ascii": lambda text: text.encode("ascii", "replace"),
    "hex": lambda text: bytes.fromhex(text.removeprefix("0x").removeprefix("0X")),
    "base64": base64.b64decode,
}
ENCODERS: dict[str, Callable[[bytes], str]] = {
    "utf8": lambda data: data.decode("utf-8", "replace"),
    "ascii": lambda data: data.decode("ascii", "replace"),
    "hex": lambda data: data.hex(),
    "base64": lambda data: base64.b64encode(data).decode(),
}


def _encoding(table: dict[str, Callable[[Any], Any]], name: str, value: Any) -> Any:
    if name.lower() not in table:
        raise RowFailedError(f"Unknown encoding '{name}'")
    return table[name.lower()](value)


def _regexp_extract(pattern: str, text: str, group: int = 0) -> str | None:
    match = re.search(pattern, text)
    return match.group(group) if match else None


def _regexp_replace(text: str, pattern: str, new: str) -> str:
    return re.sub(pattern, re.sub(r"\$(\d)", r"\\g<\1>", new.replace("\\", "\\\\")), text)


def _split(text: str, delimiter: str) -> list[str]:
    return text.split(delimiter) if delimiter else list(text) or [""]


def _json_field(text: str, path: str) -> str | None:
    """A field by a path such as $.a.b or $.a[0]."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path):
        key: Any = name or int(index)
        known = value if isinstance(value, dict if name else list) else {}
        if not (key in known if name else int(index) < len(known)):
            return None
        value = known[key]
    return value if isinstance(value, str) else None if value is None else json.dumps(value, separators=(",", ":"))


def _is_json(text: str | None) -> bool:
    try:
        return text is not None and json.loads(text) is not ...
    except ValueError:
        return False


def _concatenated(*parts: Any) -> Any:
    known = [part for part in parts if part is not None]
    return b"".join(known) if known and isinstance(known[0], bytes) else "".join(known)


def _joined(separator: str | None, *parts: str | None) -> str | None:
    return None if separator is None else separator.join(part for part in parts if part is not None)


def _field(wanted: str | None, *choices: str | None) -> int:
    return choices.index(wanted) + 1 if wanted is not None and wanted in choices else 0


def _elt(position: int, *choices: str | None) -> str | None:
    return choices[position - 1] if 1 <= position <= len(choices) else None


def _split_to_map(text: str, entries: str, values: str) -> dict[str, str]:
    pairs = [entry.split(values, 1) for entry in text.split(entries) if values in entry]
    return dict(pairs)


def _chr(value: Any) -> str:
    return chr(value) if isinstance(value, int) else value.encode().decode("unicode_escape")


def _capitalized(text: str) -> str:
    """White space before the first word is lost."""
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"\S+\s*", text.lower()))


def _uuid(*data: bytes) -> str:
    if data:
        raise UnreadError("UUID of bytes")
    return str(uuid.uuid4())


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "CHR": _chr,
    "ENCODE": lambda text, source, target: _encoding(ENCODERS, target, _encoding(DECODERS, source, text)),
    "EXTRACTJSONFIELD": _json_field,
    "FROM_BYTES": lambda data, name: _encoding(ENCODERS, name, data),
    "INITCAP": _capitalized,
    "LCASE": str.lower,
    "LEN": len,
    "LPAD": lambda text, length, padding: _padded(text, length, padding, True),
    "MASK": _mask,
    "REGEXP_EXTRACT": _regexp_extract,
    "REGEXP_EXTRACT_ALL": lambda pattern, text, group=0: [match.group(group) for match in re.finditer(pattern, text)],
    "REGEXP_REPLACE": _regexp_replace,
    "REGEXP_SPLIT_TO_ARRAY": lambda text, pattern: re.split(pattern, text),
    "REPLACE": str.replace,
    "RPAD": lambda text, length, padding: _padded(text, length, padding, False),
    "SPLIT": _split,
    "SPLIT_TO_MAP": _split_to_map,
    "SUBSTRING": _substring,
    "TO_BYTES": lambda text, name: _encoding(DECODERS, name, text),
    "TRIM": lambda text: text.strip("".join(map(chr, range(33)))),
    "UCASE": str.upper,
    "URL_DECODE_PARAM": unquote_plus,
    "URL_ENCODE_PARAM": quote_plus,
}
NULL_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "CONCAT": _concatenated,
    "CONCAT_WS": _joined,
    "ELT": _elt,
    "FIELD": _field,
    "INSTR": _instr,
    "IS_JSON_STRING": _is_json,
    "UUID": _uuid,
}
