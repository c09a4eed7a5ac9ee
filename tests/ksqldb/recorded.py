"""Exchanges with a real ksqlDB that were recorded, and the server that repeats them.

The data are not part of the repository: `KANDLE_SHARED_DATA` names their folder (default: ../shared/data).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ksqldb.serving import Asked, Reply

DATA = Path(os.environ.get("KANDLE_SHARED_DATA", "../shared/data"))
FILE = DATA / "ksqldb_rest.jsonl"
MISSING = f"no shared data in {DATA} (set KANDLE_SHARED_DATA)"


@dataclass(frozen=True)
class Exchange:
    """One recorded request with its answer."""

    number: int
    name: str
    http: str
    method: str
    path: str
    body: str | None
    status: int
    content_type: str | None
    is_chunked: bool
    chunks: tuple[str, ...]

    @property
    def asks(self) -> Any:
        """The JSON of the request; of inserts the lines."""
        return _content((self.body or "").encode())

    @property
    def reply(self) -> Reply:
        parts = [chunk.encode() for chunk in self.chunks]
        return Reply(self.status, parts, self.content_type, is_chunked=self.is_chunked)


def exchanges() -> tuple[Exchange, ...]:
    """All of the file; none where it is missing."""
    if not FILE.exists():
        return ()
    lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return tuple(
        Exchange(
            number,
            line["name"],
            line["http"],
            line["method"],
            line["path"],
            line["request_body"],
            line["status"],
            line["content_type"],
            line["transfer_encoding"] == "chunked",
            tuple(line["response_chunks"]),
        )
        for number, line in enumerate(lines)
    )


EXCHANGES = exchanges()


def _content(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


@dataclass
class Replay:
    """Answers to what was recorded, to the letter of its JSON; whatever else is asked breaks the connection."""

    known: Sequence[Exchange] = EXCHANGES
    given: list[int] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply | None:
        content = _content(asked.body)
        for exchange in self.known:
            same = (exchange.method, exchange.path, exchange.http) == (asked.method, asked.path, asked.version)
            if same and exchange.asks == content:
                self.given.append(exchange.number)
                return exchange.reply
        return None
