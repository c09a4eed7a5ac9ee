"""A stand-in that plays ksqlDB: statements over HTTP in the shapes that were recorded, persistent queries on a real Kafka."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from confluent_kafka.admin import AdminClient

from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.nodes import Command, Create, Drop
from tests.ksqldb.simulator.server import Server
from tests.ksqldb.simulator.sources import StreamOrTable
from tests.ksqldb.simulator.statements import parse_statement, split_statements
from tests.ksqldb.simulator.types import Type
from tests.ksqldb.standin.running import Faults, RunningQuery, Setting
from tests.waiting import LIMIT

SERVICE = "standin_"
Json = dict[str, Any]


@dataclass
class StandIn:
    """The server; `faults` are those of queries that begin from now on, `refuses` says what it answers to some statements."""

    bootstrap: str
    registry: str = ""
    faults: Faults = field(default_factory=Faults)
    url: str = ""
    version: str = "7.4.0"
    asked: list[str] = field(default_factory=list)
    refuses: Callable[[str], tuple[int, Json] | None] = lambda statements: None
    sources: Server = field(default_factory=Server)
    queries: dict[str, RunningQuery] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def answer(self, method: str, path: str, body: Json | None) -> tuple[int, Any]:
        if (refused := self.refuses("" if body is None else body["ksql"])) is not None:
            return refused
        if path == "/info":
            found = {"version": self.version, "kafkaClusterId": "x", "ksqlServiceId": SERVICE, "serverStatus": "RUNNING"}
            return 200, {"KsqlServerInfo": found}
        if path == "/healthcheck":
            return 200, {"isHealthy": True, "details": {}, "serverState": "READY"}
        if path == "/ksql" and body is not None:
            return self._statements(body["ksql"])
        return 404, {"@type": "generic_error", "error_code": 40400, "message": f"{method} {path} is not there"}

    def _statements(self, text: str) -> tuple[int, Any]:
        entities = []
        for statement in split_statements(text):
            self.asked.append(statement)
            try:
                entities.append(self._one(statement))
            except RefusedError as error:
                content = {"@type": "statement_error", "error_code": 40001, "message": str(error), "statementText": statement}
                return 400, content | {"entities": []}
        return 200, [entity for entity in entities if entity is not None]

    def _one(self, text: str) -> Json | None:
        words = text.split()
        if words[0] == "SHOW":
            return self._shown(words[1].strip(";").upper(), text)
        if words[0] == "EXPLAIN":
            return self._explained(words[1].strip(";"), text)
        statement = parse_statement(text)
        if isinstance(statement, Command) and statement.verb == "DESCRIBE":
            return self._described(statement.operands[0], text)
        return self._changed(statement, text)

    def _changed(self, statement: Any, text: str) -> Json | None:
        if isinstance(statement, Create):
            return self._created(statement, text)
        if isinstance(statement, Drop):
            self.sources.run(text)
            self._end(statement.name)
            return _done(text, f"{statement.kind.lower()}/{statement.name}/drop", "dropped")
        self.sources.run(text)
        if isinstance(statement, Command) and statement.verb == "TERMINATE":
            self._end(next(name for name in self.queries if self.id(name) == statement.operands[0]))
            return _done(text, f"terminate/{statement.operands[0]}/execute", "Query terminated.")
        return None

    def _created(self, statement: Create, text: str) -> Json:
        if statement.name in self.sources.sources:
            message = f"Cannot add {statement.kind.lower()} `{statement.name}`: it already exists."
            return {"@type": "warning_entity", "statementText": text, "message": message, "warnings": []}
        self.sources.run(text)
        self.texts[statement.name] = text
        query = None
        if statement.name in self.sources.plans:
            query = self._begin(statement.name)
        return _done(text, f"{statement.kind.lower()}/`{statement.name}`/create", "created", query)

    def _begin(self, name: str) -> str:
        plan, sink = self.sources.plans[name], self.sources.sources[name]
        self._count += 1
        self._ids[name] = f"{'CTAS' if sink.kind == 'TABLE' else 'CSAS'}_{name.upper()}_{self._count}"
        topics = AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=LIMIT).topics
        partitions = len(topics[plan.first.topic].partitions)
        setting = Setting(self.bootstrap, self.registry, self.group(name), self.faults)
        self.queries[name] = RunningQuery(plan, sink, partitions, setting)
        return self.id(name)

    _ids: dict[str, str] = field(default_factory=dict)

    def id(self, name: str) -> str:
        """The id of the query that fills something."""
        return self._ids[name]

    def group(self, name: str) -> str:
        """Its consumer group."""
        return f"_confluent-ksql-{SERVICE}query_{self.id(name)}"

    def _end(self, name: str) -> None:
        running = self.queries.pop(name, None)
        if running is not None:
            running.stop()

    def _shown(self, what: str, text: str) -> Json:
        if what == "QUERIES":
            found = [self._query(name, running) for name, running in self.queries.items()]
            return {"@type": "queries", "statementText": text, "queries": found, "warnings": []}
        every = [source for source in self.sources.sources.values() if f"{source.kind}S" == what]
        listed = [
            {
                "type": source.kind,
                "name": source.name,
                "topic": source.topic,
                "keyFormat": source.key_format,
                "valueFormat": source.value_format,
                "isWindowed": source.windowed,
            }
            for source in every
        ]
        return {"@type": what.lower(), "statementText": text, what.lower(): listed, "warnings": []}

    def _query(self, name: str, running: RunningQuery) -> Json:
        return {
            "queryString": self.texts[name],
            "sinks": [name],
            "sinkKafkaTopics": [running.sink.topic],
            "id": self.id(name),
            "statusCount": {running.state: 1},
            "queryType": "PERSISTENT",
            "state": running.state,
        }

    def _described(self, name: str, text: str) -> Json:
        if name not in self.sources.sources:
            raise RefusedError(f"Could not find STREAM/TABLE '{name}' in the Metastore")
        source = self.sources.sources[name]
        topics = AdminClient({"bootstrap.servers": self.bootstrap}).list_topics(timeout=LIMIT).topics
        plan = self.sources.plans.get(name)
        readers = [self._query(each, self.queries[each]) for each in source.readers if each in self.queries]
        writers = [self._query(name, self.queries[name])] if name in self.queries else []
        description = {
            "name": name,
            "windowType": plan.query.window.kind if plan is not None and plan.query.window is not None else None,
            "readQueries": readers,
            "writeQueries": writers,
            "fields": _fields(source),
            "type": source.kind,
            "timestamp": source.timestamp or "",
            "keyFormat": source.key_format,
            "valueFormat": source.value_format,
            "topic": source.topic,
            "partitions": len(topics[source.topic].partitions) if source.topic in topics else 0,
            "replication": 1,
            "statement": self.texts[name],
            "sourceConstraints": [],
        }
        return {"@type": "sourceDescription", "statementText": text, "sourceDescription": description, "warnings": []}

    def _explained(self, query: str, text: str) -> Json:
        names = [name for name in self.queries if self.id(name) == query]
        if not names:
            raise RefusedError(f"Query with id:{query} does not exist")
        running = self.queries[names[0]]
        description = {
            "id": query,
            "statementText": self.texts[names[0]],
            "fields": _fields(running.sink),
            "sources": [source.name for _, source in running.plan.sources],
            "sinks": [names[0]],
            "topology": "",
            "executionPlan": "",
            "overriddenProperties": {},
            "queryType": "PERSISTENT",
            "state": running.state,
            "consumerGroupId": self.group(names[0]),
            "queryErrors": [{"errorMessage": running.problem}] if running.problem else [],
        }
        return {"@type": "queryDescription", "statementText": text, "queryDescription": description, "warnings": []}

    def stop(self) -> None:
        """End all queries."""
        for name in list(self.queries):
            self._end(name)


def _done(text: str, command: str, message: str, query: str | None = None) -> Json:
    status = {"status": "SUCCESS", "message": message, "queryId": query}
    return {"@type": "currentStatus", "statementText": text, "commandId": command, "commandStatus": status, "warnings": []}


def _fields(source: StreamOrTable) -> list[Json]:
    return [
        {"name": column.name, "schema": _schema(column.type)} | ({"type": "KEY"} if column.key else {})
        for column in source.columns
    ]


def _schema(kind: Type) -> Json:
    found: Json = {"type": "STRING" if kind.name == "VARCHAR" else kind.name, "fields": None, "memberSchema": None}
    if kind.name == "DECIMAL":
        found["parameters"] = {"precision": kind.precision, "scale": kind.scale}
    if kind.name == "ARRAY":
        found["memberSchema"] = _schema(kind.items[0])
    if kind.name == "STRUCT":
        found["fields"] = [{"name": name, "schema": _schema(each)} for name, each in zip(kind.fields, kind.items, strict=True)]
    return found


@contextmanager
def standing_in(bootstrap: str, registry: str = "", faults: Faults | None = None) -> Iterator[StandIn]:
    """A stand-in on a free port of this machine."""
    found = StandIn(bootstrap, registry, faults or Faults())
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with lock:
                status, content = found.answer(self.command, self.path, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    found.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
        found.stop()
