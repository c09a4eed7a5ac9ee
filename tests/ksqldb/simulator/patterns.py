"""The date and time patterns of Java that FORMAT_ and PARSE_ functions take, in the locale of the USA (weeks start on Sunday)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from tests.ksqldb.simulator.errors import RowFailedError, UnreadError

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
PIECE = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|([^A-Za-z'\[\]{}#]+)", re.DOTALL)


def zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError) as error:
        raise RowFailedError(f"Unknown time-zone ID: {name}") from error


def pieces(pattern: str) -> Iterator[tuple[str, int, str]]:
    """(letter, count, "") for a field and ("", 0, text) for what stands for itself."""
    position = 0
    while position < len(pattern):
        match = PIECE.match(pattern, position)
        if match is None:
            raise UnreadError(f"the pattern {pattern!r} has something that this reading does not know")
        quoted, letter, plain = match.groups()
        text = ("'" if quoted == "" else quoted.replace("''", "'")) if quoted is not None else plain
        yield (letter, len(match.group()), "") if letter else ("", 0, text)
        position = match.end()


def formatted(moment: datetime, pattern: str) -> str:
    return "".join(_field(moment, letter, count) if letter else text for letter, count, text in pieces(pattern))


def _field(moment: datetime, letter: str, count: int) -> str:
    if letter not in FIELDS:
        raise UnreadError(f"the pattern letter {letter!r} is not known to this reading")
    return FIELDS[letter](moment, count)


def _padded(read: Callable[[datetime], int]) -> Callable[[datetime, int], str]:
    return lambda moment, count: str(read(moment)).rjust(count, "0")


def _year(read: Callable[[datetime], int]) -> Callable[[datetime, int], str]:
    return lambda moment, count: f"{read(moment) % 100:02}" if count == 2 else str(read(moment)).rjust(count, "0")


def _named(names: list[str], read: Callable[[datetime], int], numbers: int) -> Callable[[datetime, int], str]:
    """A number with one or two letters, then short, long and one-letter names."""

    def field(moment: datetime, count: int) -> str:
        if count <= numbers:
            return str(read(moment)).rjust(count, "0")
        name = names[read(moment) - 1]
        return name if count == 4 else name[:1] if count == 5 else name[:3]

    return field


def _week_start(moment: datetime) -> date:
    return moment.date() - timedelta(days=moment.isoweekday() % 7)


def week_year(moment: datetime) -> int:
    """The year of the week; the week with the first of January is its first."""
    return (_week_start(moment) + timedelta(days=6)).year


def week(moment: datetime) -> int:
    first = datetime(week_year(moment), 1, 1)
    return (_week_start(moment) - _week_start(first)).days // 7 + 1


def _offset(letter: str) -> Callable[[datetime, int], str]:
    def field(moment: datetime, count: int) -> str:
        minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
        if letter == "X" and not minutes:
            return "Z"
        hours, rest = divmod(abs(minutes), 60)
        text = f"{'-' if minutes < 0 else '+'}{hours:02}"
        colon = ":" if count == 3 and letter != "Z" else ""
        return text if count == 1 and not rest and letter != "Z" else f"{text}{colon}{rest:02}"

    return field


FIELDS: dict[str, Callable[[datetime, int], str]] = {
    "y": _year(lambda moment: moment.year),
    "u": _year(lambda moment: moment.year),
    "Y": _year(week_year),
    "M": _named(MONTHS, lambda moment: moment.month, 2),
    "L": _named(MONTHS, lambda moment: moment.month, 2),
    "d": _padded(lambda moment: moment.day),
    "D": _padded(lambda moment: moment.timetuple().tm_yday),
    "Q": _padded(lambda moment: (moment.month + 2) // 3),
    "w": _padded(week),
    "E": _named(DAYS, lambda moment: moment.isoweekday() % 7 + 1, 0),
    "e": _named(DAYS, lambda moment: moment.isoweekday() % 7 + 1, 2),
    "a": lambda moment, count: "AM" if moment.hour < 12 else "PM",
    "H": _padded(lambda moment: moment.hour),
    "k": _padded(lambda moment: moment.hour or 24),
    "K": _padded(lambda moment: moment.hour % 12),
    "h": _padded(lambda moment: moment.hour % 12 or 12),
    "m": _padded(lambda moment: moment.minute),
    "s": _padded(lambda moment: moment.second),
    "S": lambda moment, count: f"{moment.microsecond:06}000"[:count],
    "V": lambda moment, count: str(moment.tzinfo),
    "z": lambda moment, count: str(moment.tzname()),
    **{letter: _offset(letter) for letter in "XxZ"},
}

PARSED = {
    "y": "year",
    "u": "year",
    "M": "month",
    "d": "day",
    "H": "hour",
    "m": "minute",
    "s": "second",
    "S": "fraction",
    "h": "half",
    "a": "noon",
    "x": "offset",
}


def parsed(text: str, pattern: str) -> datetime:
    """A moment, of a zone only where the text has an offset; parts that the pattern does not have are the least ones."""
    match = re.fullmatch("".join(_expected(*piece) for piece in pieces(pattern)), text)
    if match is None:
        raise RowFailedError(f"Failed to parse '{text}' with '{pattern}'")
    parts = match.groupdict()
    hour = int(parts.get("hour") or 0)
    if parts.get("half"):
        hour = int(parts["half"]) % 12 + (12 if parts.get("noon") == "PM" else 0)
    year = parts.get("year") or "1970"
    try:
        return datetime(
            int(year) + (2000 if len(year) == 2 else 0),
            _month(parts.get("month") or "1"),
            int(parts.get("day") or 1),
            hour,
            int(parts.get("minute") or 0),
            int(parts.get("second") or 0),
            int((parts.get("fraction") or "0").ljust(6, "0")[:6]),
            _offset_of(parts["offset"]) if "offset" in parts else None,
        )
    except ValueError as error:
        raise RowFailedError(f"Failed to parse '{text}': {error}") from error


def _expected(letter: str, count: int, text: str) -> str:
    """The regular expression of one piece."""
    if not letter:
        return re.escape(text)
    if letter not in PARSED or (letter == "x" and count not in (2, 3)):
        raise UnreadError(f"the pattern letter {letter!r} is not known to this reading when it parses")
    if letter == "x":
        return rf"(?P<offset>[+-]\d\d{':' if count == 3 else ''}\d\d)"
    digits = r"\d{1,2}" if count == 1 else rf"\d{{{count}}}"
    if letter in "yu" and count == 1:
        digits = r"\d{1,4}"
    if letter == "M" and count > 2:
        digits = "|".join(MONTHS if count == 4 else [name[:3] for name in MONTHS])
    return f"(?P<{PARSED[letter]}>{'AM|PM' if letter == 'a' else digits})"


def _offset_of(text: str) -> timezone:
    hours, minutes = int(text[1:3]), int(text[-2:])
    return timezone((-1 if text[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))


def _month(text: str) -> int:
    return int(text) if text.isdigit() else 1 + next(position for position, name in enumerate(MONTHS) if name.startswith(text))
