"""HTTP connections to one ksqlDB server, and readers of its JSON bodies.

Complete responses come by HTTP/1.1 from a pool of connections. Streamed responses (queries and inserts) have a connection
of their own each, see `Stream`.
"""

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
BLANK = b" \t\r\n"

# At its finest level, the header compression library logs the password.
logging.getLogger("hpack").setLevel(logging.INFO)


class Repeat(Enum):
    """When a request may be sent again after the server was unavailable."""

    ALWAYS = "it only reads"
    UNSENT = "only if no connection was made"

    def allows(self, error: KsqlError) -> bool:
        """Return whether the request may be sent again after this error."""
        return self is Repeat.ALWAYS or was_never_sent(error)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response: its status and its body."""

    status: int
    body: bytes


class Stream:
    """One streamed response on a connection of its own.

    The connection is not shared for three reasons: ksqlDB ends a query when its connection ends; it accepts a request to
    close a query only on the same connection; and a response that is left before its end would go on filling a connection
    that other requests use.
    """

    def __init__(self, client: httpx2.AsyncClient, failures: Failures, subject: str) -> None:
        self._client, self._failures, self._subject = client, failures, subject
        self._limit = seconds(failures.settings.timeout)
        self._response: httpx2.Response | None = None
        self._parts: AsyncIterator[bytes] | None = None

    async def open(self, path: str, body: bytes) -> None:
        """Send the request and wait for the head of the response; raise KsqlError if its status is not 200."""
        request = self._client.build_request("POST", path, content=body, headers={"Accept": LINES})
        with self._failures.translated(self._subject), anyio.fail_after(self._limit):
            self._response = await self._client.send(request, stream=True)
            if self._response.status_code != OK:
                raise self._failures.refusal(self._subject, self._response.status_code, await self._response.aread())
        self._parts = self._response.aiter_bytes()

    @property
    def is_http2(self) -> bool:
        """Whether the response came by HTTP/2."""
        return self._response is not None and self._response.http_version == "HTTP/2"

    async def part(self, *, is_patient: bool = False) -> bytes | None:
        """Wait for the next bytes, without a timeout if `is_patient`; return None at the end."""
        assert self._parts is not None
        with self._failures.translated(self._subject), nullcontext() if is_patient else anyio.fail_after(self._limit):
            return await anext(self._parts, None)

    async def ask(self, path: str, content: object, subject: str) -> Answer:
        """Send another request on the same connection and return its complete response.

        The connection exists already, so the limit is the short `connect_timeout`.
        """
        limit = seconds(self._failures.settings.connect_timeout)
        with self._failures.translated(subject), anyio.fail_after(limit):
            response = await self._client.post(path, json=content)
            return Answer(response.status_code, response.content)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class Http:
    """Connections to one server.

    The `subject` of its methods says what is requested, for messages.
    """

    def __init__(self, settings: KsqlSettings, clock: Clock) -> None:
        self.settings = settings
        self.failures = Failures(settings)
        self._clock = clock
        # The HTTP versions that are offered are part of an SSL context, so each choice of versions needs its own.
        self._plain = self._tls_context()
        self._negotiating = self._tls_context()
        self._client = self._connections(is_http2=False, read_timeout=seconds(settings.timeout))

    def _tls_context(self) -> ssl.SSLContext:
        # Without https nothing is encrypted, and the certificates of the system need not be read.
        return self.settings.tls.context() if self.settings.is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def _connections(self, *, is_http2: bool, read_timeout: float | None) -> httpx2.AsyncClient:
        """Return a pool of connections, on which the server may be silent for `read_timeout` seconds."""
        settings = self.settings
        connect_timeout = seconds(settings.connect_timeout)
        timeout = httpx2.Timeout(seconds(settings.timeout), connect=connect_timeout, read=read_timeout)
        transport = httpx2.AsyncHTTPTransport(
            verify=self._negotiating if is_http2 else self._plain,
            http1=settings.is_secure or not is_http2,
            http2=is_http2,
        )
        auth = None
        if settings.user is not None and settings.password is not None:
            auth = httpx2.BasicAuth(settings.user, settings.password)
        return httpx2.AsyncClient(
            base_url=settings.url,
            auth=auth,
            # Compression would hold rows back until a block is full.
            headers={"Content-Type": JSON, "Accept-Encoding": "identity"},
            timeout=timeout,
            transport=transport,
        )

    async def ask(self, method: str, path: str, content: object, subject: str) -> Answer:
        """Send a request and return the complete response, whatever its status."""
        with self.failures.translated(subject):
            response = await self._client.request(method, path, json=content)
            return Answer(response.status_code, response.content)

    async def json(self, method: str, path: str, content: object, subject: str, repeat: Repeat) -> Any:
        """Send a request and return the JSON of the response; raise KsqlError for a bad status or another body."""

        async def once() -> Any:
            answer = await self.ask(method, path, content, subject)
            if answer.status != OK:
                raise self.failures.refusal(subject, answer.status, answer.body)
            value = self.failures.content(answer.body)
            if value is None:
                raise self.failures.nonsense(subject, "JSON", answer.body)
            return value

        return await self.repeated(once, repeat)

    async def repeated(self, ask: Callable[[], Awaitable[T]], repeat: Repeat) -> T:
        """Call `ask` until it succeeds, as often as the settings and the kind of the request allow."""
        for attempt in range(self.settings.attempts - 1):
            try:
                return await ask()
            except KsqlUnavailableError as error:
                if not repeat.allows(error):
                    raise
            await self._clock.sleep_until(self._clock.now() + FIRST_PAUSE * 2**attempt)
        return await ask()

    def stream(self, subject: str) -> Stream:
        """Return a connection for one streamed response; the caller closes it."""
        # The limit differs from part to part, so `Stream.part` sets it and the connection has none.
        return Stream(self._connections(is_http2=self.settings.http == "2", read_timeout=None), self.failures, subject)

    async def aclose(self) -> None:
        """Close the connections of complete responses."""
        await self._client.aclose()


class Documents(Protocol):
    """A reader of JSON values from the parts of a body, which may be cut anywhere, even inside of a character."""

    def feed(self, part: bytes) -> list[Any]:
        """Return the values that this part completes; raise ValueError for invalid JSON."""

    def finish(self) -> list[Any]:
        """Return the values that only the end of the body completes; raise ValueError for an incomplete one."""


class Lines:
    """Reader of one value per line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[Any]:
        """Return the values of the lines that this part completes."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        return [read_json(line) for line in lines if line.strip(BLANK)]

    def finish(self) -> list[Any]:
        """Return the value of a last line without a line break."""
        rest, self._rest = self._rest, b""
        return [read_json(rest)] if rest.strip(BLANK) else []


class Members:
    """Reader of the members of one array, all of which are arrays or objects."""

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder(parse_float=Decimal)
        self._characters = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._is_open = False
        self._is_over = False

    def feed(self, part: bytes) -> list[Any]:
        """Return the members that this part completes."""
        self._rest += self._characters.decode(part)
        members: list[Any] = []
        while self._at_member():
            try:
                value, end = self._decoder.raw_decode(self._rest)
            except json.JSONDecodeError:
                # The member is not complete yet; if it never will be, `finish` raises.
                break
            members.append(value)
            self._rest = self._rest[end:]
        return members

    def _at_member(self) -> bool:
        """Skip what separates members; return whether one may follow."""
        rest = self._rest.lstrip()
        if not self._is_open and rest.startswith("["):
            self._is_open, rest = True, rest[1:].lstrip()
        rest = rest.removeprefix(",").lstrip()
        if rest.startswith("]"):
            self._is_over, rest = True, rest[1:].lstrip()
        self._rest = rest
        return bool(rest) and not self._is_over

    def finish(self) -> list[Any]:
        """Return nothing; raise ValueError if the array is incomplete, or something follows it."""
        if not self._is_over:
            raise ValueError("the array is incomplete")
        if self._rest:
            raise ValueError("the array is followed by something else")
        return []


def documents(beginning: bytes) -> Documents:
    """Return the reader for a body that begins with these bytes.

    Queries are answered by lines, unless a proxy in between has changed the `Accept` header: then by an array.
    """
    return Members() if beginning.lstrip(BLANK).startswith(b"[") else Lines()
