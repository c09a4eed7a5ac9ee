"""A small server with the HTTP interface of a schema registry, its schemas those of an embedded one."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from kandle.errors import SchemaError
from kandle.serde.compatibility import Compatibility
from kandle.serde.registry import EmbeddedRegistry, MemoryJournal
from kandle.serde.schema import canonical

Answer = tuple[int, Any]


@dataclass
class Server:
    """What the server holds and has been asked; `broken` is the answer to all requests that begin with
    `broken_for`, `user` a name and password to ask for."""

    schemas: EmbeddedRegistry = field(default_factory=lambda: EmbeddedRegistry(MemoryJournal()))
    rules: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: Answer | None = None
    broken_for: str = ""
    user: str | None = None
    kind: str | None = None
    url: str = ""

    def answer(self, method: str, path: str, body: Any) -> Answer:
        for pattern, handle in ROUTES.items():
            if result := re.fullmatch(pattern, f"{method} {path}"):
                return handle(self, body, *map(unquote, result.groups()))
        return 404, {"error_code": 404, "message": f"no such path: {path}"}

    def register(self, body: Any, subject: str) -> Answer:
        try:
            json.loads(body["schema"])
            return 200, {"id": self.schemas.register(subject, body["schema"])}
        except SchemaError as error:
            if "not an Avro schema" in str(error):
                return 422, {"error_code": 42201, "message": "Either the input schema or one of its references is invalid"}
            return 409, {"error_code": 409, "message": "Schema being registered is incompatible with an earlier schema"}

    def latest(self, body: Any, subject: str) -> Answer:
        result = self.schemas.latest(subject)
        if result is None:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        return 200, {"subject": subject, "version": result.version, "id": result.number, "schema": result.schema}

    def schema(self, body: Any, number: str) -> Answer:
        result = self.schemas.schema(int(number))
        if result is None:
            return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
        return 200, {"schema": result} | ({} if self.kind is None else {"schemaType": self.kind})

    def compatibility(self, body: Any, subject: str) -> Answer:
        if self.schemas.latest(subject) is None:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        canonical(body["schema"])
        return 200, {"is_compatible": not self.schemas.differences(subject, body["schema"])}

    def set_rule(self, body: Any, subject: str) -> Answer:
        Compatibility(body["compatibility"])
        self.rules[subject] = body["compatibility"]
        return 200, body


ROUTES = {
    r"POST /subjects/([^/]+)/versions": Server.register,
    r"GET /subjects/([^/]+)/versions/latest": Server.latest,
    r"GET /schemas/ids/(\d+)": Server.schema,
    r"POST /compatibility/subjects/([^/]+)/versions/latest": Server.compatibility,
    r"PUT /config/([^/]+)": Server.set_rule,
}


@contextmanager
def serving() -> Iterator[Server]:
    """Return a server on a free port of this machine."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path = urlsplit(self.path).path
            server.asked.append(f"{self.command} {path}")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            is_broken = server.broken is not None and server.asked[-1].startswith(server.broken_for)
            status, content = (server.broken if is_broken else None) or self._checked(path, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _checked(self, path: str, body: Any) -> Answer:
            if server.user is not None:
                expected = "Basic " + base64.b64encode(server.user.encode()).decode()
                if self.headers.get("Authorization") != expected:
                    return 401, {"error_code": 401, "message": "Unauthorized"}
            return server.answer(self.command, path, body)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
