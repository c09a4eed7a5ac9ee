"""Findings of `kandle doctor`: one line per check, with advice where something is wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check. `advice` says what to do, unless the level is "ok"."""

    check: str
    level: Literal["ok", "warning", "problem"]
    message: str
    advice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.level:<7}  {self.check:<13}  {' '.join((self.message + advice).split())}"


def fine(check: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, advice: str) -> Finding:
    """Return a finding that may be intended, but often is not."""
    return Finding(check, "warning", message, advice)


def problem(check: str, message: str, advice: str) -> Finding:
    """Return a finding that keeps kandle from working."""
    return Finding(check, "problem", message, advice)
