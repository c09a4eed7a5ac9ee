"""The way to one server: whole answers by HTTP/1.1, and answers in parts on connections of their own."""

from __future__ import annotations

import codecs
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol, TypeVar

import anyio
import httpx2

from kandle.errors import KsqlError, KsqlUnavailableError
from kandle.ksqldb.failures import Failures, read_json, was_never_sent
from kandle.ksqldb.settings import KsqlSettings, seconds
from kandle.time.clock import Clock
from kandle.time.timeframe import MILLISECOND

T = TypeVar("T")

FIRST_PAUSE = 100 * MILLISECOND
JSON = "application/json"
LINES = "application/vnd.ksqlapi.delimited.v1"
OK = 200

# What the library of headers writes at its finest level holds the password.
logging.getLogger("hpack").setLevel(logging.INFO)


class Repeat(Enum):
    """When a request may be sent again after its server was not available."""

    ALWAYS = "it only reads"
    UNSENT = "only if no connection was made"

    def allows(self, error: KsqlError) -> bool:
        return self is Repeat.ALWAYS or was_never_sent(error)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its status and its body."""

    status: int
    body: bytes


class Stream:
    """One answer that comes in parts, on a connection of its own.

    Of its own, since ksqlDB ends a query with its connection, closes one by request only on the same connection, and since
    an answer that is left before its end would go on filling a connection that others share.
    """

    def __init__(self, client: httpx2.AsyncClient, failures: Failures, what: str) -> None:
        self._client, self._failures, self._what = client, failures, what
        self._limit = seconds(failures.settings.timeout)
        self._response: httpx2.Response | None = None
        self._parts: AsyncIterator[bytes] | None = None

    async def open(self, path: str, body: bytes) -> None:
        """Send the request and wait for the head of the answer; KsqlError if it has a bad status."""
        request = self._client.build_request("POST", path, content=body, headers={"Accept": LINES})
        with self._failures.translated(self._what), anyio.fail_after(self._limit):
            self._response = await self._client.send(request, stream=True)
            if self._response.status_code != OK:
                raise self._failures.refusal(self._what, self._response.status_code, await self._response.aread())
        self._parts = self._response.aiter_bytes()

    @property
    def is_http2(self) -> bool:
        return self._response is not None and self._response.http_version == "HTTP/2"

    async def part(self, *, is_patient: bool = False) -> bytes | None:
        """The next bytes, None at the end; who is patient waits for them without limit."""
        assert self._parts is not None
        with self._failures.translated(self._what), nullcontext() if is_patient else anyio.fail_after(self._limit):
            return await anext(self._parts, None)

    async def ask(self, path: str, content: object, what: str) -> Answer:
        """A whole answer by the same connection, which is there, so it is waited for no longer than for making one."""
        limit = seconds(self._failures.settings.connect_timeout)
        with self._failures.translated(what), anyio.fail_after(limit):
            response = await self._client.post(path, json=content)
            return Answer(response.status_code, response.content)

    async def aclose(self) -> None:
        await self._client.aclose()


class Http:
    """Requests to one server."""

    def __init__(self, settings: KsqlSettings, clock: Clock) -> None:
        self.settings = settings
        self.failures = Failures(settings)
        self._clock = clock
        self._plain = self._tls_context()
        # Versions that are offered belong to the context, so there is one for each choice of them.
        self._choosing = self._tls_context()
        self._client = self._connections(is_http2=False, silence=seconds(settings.timeout))

    def _tls_context(self) -> ssl.SSLContext:
        # Without https nothing is encrypted, and the certificates of the system need not be read.
        return self.settings.tls.context() if self.settings.is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def _connections(self, *, is_http2: bool, silence: float | None) -> httpx2.AsyncClient:
        """Connections on which the server may be silent for so long."""
        settings = self.settings
        timeout = httpx2.Timeout(seconds(settings.timeout), connect=seconds(settings.connect_timeout), read=silence)
        transport = httpx2.AsyncHTTPTransport(
            verify=self._choosing if is_http2 else self._plain,
            http1=settings.is_secure or not is_http2,
            http2=is_http2,
        )
        auth = None if settings.user is None or settings.password is None else httpx2.BasicAuth(settings.user, settings.password)
        return httpx2.AsyncClient(
            base_url=settings.url,
            auth=auth,
            # Compressed parts would wait for one another.
            headers={"Content-Type": JSON, "Accept-Encoding": "identity"},
            timeout=timeout,
            transport=transport,
        )

    async def ask(self, method: str, path: str, content: object, what: str) -> Answer:
        """One whole answer, whatever its status."""
        with self.failures.translated(what):
            response = await self._client.request(method, path, json=content)
            return Answer(response.status_code, response.content)

    async def json(self, method: str, path: str, content: object, what: str, repeat: Repeat) -> Any:
        """The JSON of an answer; KsqlError for a bad status or another body."""

        async def once() -> Any:
            answer = await self.ask(method, path, content, what)
            if answer.status != OK:
                raise self.failures.refusal(what, answer.status, answer.body)
            found = self.failures.content(answer.body)
            if found is None:
                raise self.failures.nonsense(what, "JSON", answer.body)
            return found

        return await self.repeated(once, repeat)

    async def repeated(self, ask: Callable[[], Awaitable[T]], repeat: Repeat) -> T:
        """What `ask` gives, asked as often as the settings and the kind of the request allow."""
        for attempt in range(self.settings.attempts - 1):
            try:
                return await ask()
            except KsqlUnavailableError as error:
                if not repeat.allows(error):
                    raise
            await self._clock.sleep_until(self._clock.now() + FIRST_PAUSE * 2**attempt)
        return await ask()

    def stream(self, what: str) -> Stream:
        """A connection for one answer in parts; it is to be closed."""
        # How long to wait differs from part to part there, so each is waited for by itself.
        return Stream(self._connections(is_http2=self.settings.http == "2", silence=None), self.failures, what)

    async def aclose(self) -> None:
        await self._client.aclose()


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
