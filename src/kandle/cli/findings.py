"""What `kandle doctor` can say: one finding per line, with what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; `advice` says what to do unless all is well."""

    check: str
    level: Literal["ok", "warning", "problem"]
    what: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.level:<7}  {self.check:<13}  {' '.join((self.what + advice).split())}"


def fine(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", what)


def warning(check: str, what: str, advice: str) -> Finding:
    """Something that may be meant, but often is not."""
    return Finding(check, "warning", what, advice)


def problem(check: str, what: str, advice: str) -> Finding:
    """Something that keeps kandle from working."""
    return Finding(check, "problem", what, advice)
