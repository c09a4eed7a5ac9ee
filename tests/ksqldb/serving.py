"""A small server that speaks HTTP/1.1 and HTTP/2 (at once, or as agreed on) and says what a test wants, part by part."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

from tests.waiting import LIMIT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Then(Enum):
    """What follows after the last part."""

    END = "the answer ends"
    CUT = "the connection breaks"
    HANG = "nothing, for ever"


@dataclass
class Reply:
    """One answer; `silence` is how long to wait before each part but the first."""

    status: int = 200
    parts: Sequence[bytes] = ()
    content_type: str | None = "application/json"
    then: Then = Then.END
    silence: float = 0
    is_chunked: bool = True
    """How HTTP/1.1 marks the end: with chunks, or a length beforehand."""


@dataclass
class Asked:
    """One request; `connection` numbers the connections from 0."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    version: str
    connection: int


@dataclass
class Served:
    """A running server: what it has been asked, and the numbers of connections that have ended."""

    answer: Callable[[Asked], Reply | None]
    port: int = 0
    scheme: str = "http"
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    ended: set[int] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    async def until_ended(self, connection: int) -> None:
        """Wait until a connection has ended."""
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(lambda: connection in self.ended), LIMIT)


class BrokenOffError(Exception):
    """The connection is to break."""


@asynccontextmanager
async def serving(
    answer: Callable[[Asked], Reply | None], *, tls: ssl.SSLContext | None = None, versions: Sequence[str] = ("1.1", "2")
) -> AsyncIterator[Served]:
    """A server on a free port; `answer` gives None to break the connection without a word."""
    served = Served(answer, scheme="http" if tls is None else "https")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        number, served.connections = served.connections, served.connections + 1
        try:
            await _speak(served, number, reader, writer, versions)
        except (BrokenOffError, ConnectionError, asyncio.CancelledError, h2.exceptions.ProtocolError):
            # Whatever it was, it ends this connection, which is all that tests look at.
            writer.transport.abort()
        finally:
            writer.close()
            tasks.discard(task)
            served.ended.add(number)
            with contextlib.suppress(RuntimeError):
                async with served.changed:
                    served.changed.notify_all()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _speak(
    served: Served, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, versions: Sequence[str]
) -> None:
    first = await reader.read(65_536)
    if "2" in versions and first.startswith(PREFACE[:3]):
        await _Http2(served, number, reader, writer).run(first)
    elif "1.1" in versions or not first:
        await _Http1(served, number, reader, writer).run(first)


class _Http1:
    def __init__(self, served: Served, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served, self._number, self._reader, self._writer = served, number, reader, writer
        self._state = h11.Connection(h11.SERVER)

    async def run(self, data: bytes) -> None:
        self._state.receive_data(data)
        while (asked := await self._request()) is not None:
            self._served.asked.append(asked)
            reply = self._served.answer(asked)
            if reply is None:
                raise BrokenOffError
            await self._reply(reply)
            self._state.start_next_cycle()

    async def _request(self) -> Asked | None:
        head: h11.Request | None = None
        body = b""
        while True:
            try:
                event = self._state.next_event()
            except h11.RemoteProtocolError:
                self._writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await self._writer.drain()
                return None
            if event is h11.NEED_DATA:
                self._state.receive_data(await self._reader.read(65_536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Asked(head.method.decode(), head.target.decode(), headers, body, "1.1", self._number)
            else:
                return None

    async def _reply(self, reply: Reply) -> None:
        headers = [("Content-Type", reply.content_type)] if reply.content_type else []
        size = str(sum(map(len, reply.parts)))
        headers.append(("Transfer-Encoding", "chunked") if reply.is_chunked else ("Content-Length", size))
        await self._send(h11.Response(status_code=reply.status, headers=headers))
        for number, part in enumerate(reply.parts):
            await asyncio.sleep(reply.silence if number else 0)
            await self._send(h11.Data(data=part))
        if reply.then is Then.CUT:
            raise BrokenOffError
        if reply.then is Then.HANG:
            await self._reader.read()
            raise BrokenOffError
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._state.send(event) or b"")
        await self._writer.drain()


class _Http2:
    def __init__(self, served: Served, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served, self._number, self._reader, self._writer = served, number, reader, writer
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._heads: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}
        self._replies: set[asyncio.Task[None]] = set()
        self._broken = asyncio.Event()

    async def run(self, data: bytes) -> None:
        self._state.initiate_connection()
        try:
            while data and not self._broken.is_set():
                for event in self._state.receive_data(data):
                    self._take(event)
                await self._flush()
                data = await self._read()
        finally:
            for task in self._replies:
                task.cancel()
        if self._broken.is_set():
            raise BrokenOffError

    async def _read(self) -> bytes:
        reading = asyncio.ensure_future(self._reader.read(65_536))
        broken = asyncio.ensure_future(self._broken.wait())
        await asyncio.wait({reading, broken}, return_when=asyncio.FIRST_COMPLETED)
        broken.cancel()
        if not reading.done():
            reading.cancel()
            return b""
        return reading.result()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._heads[event.stream_id] = {str(name): str(value) for name, value in event.headers}
            self._bodies[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived):
            self._bodies[event.stream_id] += event.data
            self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._answer(event.stream_id)

    def _answer(self, stream: int) -> None:
        head = self._heads.pop(stream)
        headers = {name: value for name, value in head.items() if not name.startswith(":")}
        asked = Asked(head[":method"], head[":path"], headers, self._bodies.pop(stream), "2", self._number)
        self._served.asked.append(asked)
        reply = self._served.answer(asked)
        if reply is None:
            self._broken.set()
            return
        task = asyncio.ensure_future(self._reply(stream, reply))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)

    async def _reply(self, stream: int, reply: Reply) -> None:
        headers = [(":status", str(reply.status))] + ([("content-type", reply.content_type)] if reply.content_type else [])
        self._state.send_headers(stream, headers)
        for number, part in enumerate(reply.parts):
            await self._flush()
            await asyncio.sleep(reply.silence if number else 0)
            self._state.send_data(stream, part)
        if reply.then is Then.END:
            self._state.end_stream(stream)
        await self._flush()
        if reply.then is Then.CUT:
            self._broken.set()

    async def _flush(self) -> None:
        self._writer.write(self._state.data_to_send())
        await self._writer.drain()
