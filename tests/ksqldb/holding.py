"""A server with streams, tables and queries that depend on one another, and refuses as ksqlDB does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.ksqldb.serving import Asked, Reply


@dataclass
class Holding:
    """`made` says from which sources one is made (CREATE .. AS), `inserts` which query copies from which to which."""

    kinds: dict[str, str]
    made: dict[str, tuple[str, ...]] = field(default_factory=dict)
    inserts: dict[str, tuple[str, str]] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply:
        statement = json.loads(asked.body)["ksql"]
        for pattern, answer in PATTERNS.items():
            if found := re.fullmatch(pattern, statement):
                status, content = answer(self, *found.groups())
                return Reply(status, [json.dumps(content).encode()])
        raise AssertionError(statement)

    def topic(self, name: str) -> str:
        return self.topics.get(name, name.lower())

    def show(self, kind: str) -> tuple[int, Any]:
        found = [
            {
                "type": kind,
                "name": name,
                "topic": self.topic(name),
                "keyFormat": "AVRO",
                "valueFormat": "AVRO",
                "isWindowed": False,
            }
            for name, each in self.kinds.items()
            if each == kind
        ]
        return 200, [{"@type": f"{kind.lower()}s", "statementText": "", f"{kind.lower()}s": found}]

    def describe(self, name: str) -> tuple[int, Any]:
        readers = [self._query(f"CSAS_{sink}_1", sink, "CREATE") for sink, sources in self.made.items() if name in sources]
        readers += [self._query(each, sink, "INSERT") for each, (source, sink) in self.inserts.items() if source == name]
        writers = [self._query(f"CSAS_{name}_1", name, "CREATE")] if name in self.made else []
        writers += [self._query(each, sink, "INSERT") for each, (_, sink) in self.inserts.items() if sink == name]
        found = {
            "name": name,
            "type": self.kinds[name],
            "windowType": None,
            "readQueries": readers,
            "writeQueries": writers,
            "fields": [],
            "timestamp": "",
            "keyFormat": "AVRO",
            "valueFormat": "AVRO",
            "topic": self.topic(name),
            "partitions": 1,
            "replication": 1,
            "statement": "",
            "sourceConstraints": [sink for sink, sources in self.made.items() if name in sources],
        }
        return 200, [{"@type": "sourceDescription", "statementText": "", "sourceDescription": found}]

    def _query(self, name: str, sink: str, word: str) -> dict[str, Any]:
        text = f"{word} ..."
        common = {"id": name, "queryString": text, "sinks": [sink], "sinkKafkaTopics": [self.topic(sink)]}
        return {**common, "queryType": "PERSISTENT", "state": "RUNNING", "statusCount": {"RUNNING": 1}}

    def terminate(self, query: str) -> tuple[int, Any]:
        del self.inserts[query]
        return self._did(f"TERMINATE {query};")

    def drop(self, kind: str, name: str, deleting: str | None) -> tuple[int, Any]:
        assert self.kinds[name] == kind
        users = [sink for sink, sources in self.made.items() if name in sources]
        users += [query for query, ends in self.inserts.items() if name in ends]
        sharing = [other for other in self.kinds if other != name and self.topic(other) == self.topic(name)]
        if users or (deleting and sharing):
            return 400, {"@type": "statement_error", "error_code": 40001, "message": f"Cannot drop {name}: {users or sharing}"}
        del self.kinds[name]
        self.made.pop(name, None)
        return self._did(f"DROP {kind} `{name}`{deleting or ''};")

    def _did(self, statement: str) -> tuple[int, Any]:
        self.done.append(statement)
        status = {"status": "SUCCESS", "message": "", "queryId": None}
        return 200, [{"@type": "currentStatus", "statementText": statement, "commandId": "a/b/c", "commandStatus": status}]


PATTERNS: dict[str, Callable[..., tuple[int, object]]] = {
    "SHOW STREAMS;": lambda held: held.show("STREAM"),
    "SHOW TABLES;": lambda held: held.show("TABLE"),
    "DESCRIBE `(.+)` EXTENDED;": Holding.describe,
    r"TERMINATE (\w+);": Holding.terminate,
    "DROP (STREAM|TABLE) `([^`]+)`( DELETE TOPIC)?;": Holding.drop,
}
