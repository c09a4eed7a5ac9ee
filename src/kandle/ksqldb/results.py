"""What the server says of itself, its sources and its queries, and what statements come to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kandle.errors import KsqlError
from kandle.ksqldb.columns import Column, type_in

SourceKind = Literal["STREAM", "TABLE"]

SUCCESS, ERROR, TERMINATED = "SUCCESS", "ERROR", "TERMINATED"
FINISHED = (SUCCESS, ERROR, TERMINATED)


PROVEN = (7, 4)
"""The release on which the statements of kandle were proven."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who the server is; `service_id` is a part of the names of its topics and consumer groups."""

    version: str
    service_id: str
    cluster_id: str
    status: str

    @property
    def release(self) -> tuple[int, ...]:
        """The numbers of the version; KsqlError if it does not begin with any."""
        found = re.match(r"v?(\d+(?:\.\d+)*)", self.version)
        if found is None:
            raise KsqlError(f"ksqlDB says that its version is {self.version!r}, which is none; check what stands under the url")
        return tuple(map(int, found[1].split(".")))

    @property
    def doubt(self) -> str | None:
        """What is to be said of another release than that on which kandle's statements were proven."""
        if self.release[: len(PROVEN)] == PROVEN:
            return None
        proven = ".".join(map(str, PROVEN))
        return f"ksqlDB is of version {self.version}; kandle was proven on {proven}: compare some finals with `kandle backfill`"


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the server is well, and which of its parts are."""

    is_healthy: bool
    state: str
    parts: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Host:
    """One server of a cluster; `updated` is when it was last heard of, in milliseconds since the epoch."""

    name: str
    is_alive: bool
    updated: int


@dataclass(frozen=True, slots=True)
class Command:
    """A statement that changes something: whether it was carried out, and the query that it started."""

    statement: str
    id: str
    status: str
    message: str
    query_id: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """A statement that changed nothing, and why."""

    statement: str
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """A stream or table."""

    name: str
    kind: SourceKind
    topic: str
    key_format: str
    value_format: str
    is_windowed: bool


@dataclass(frozen=True, slots=True)
class Sources:
    """The answer to SHOW STREAMS or SHOW TABLES."""

    statement: str
    found: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A query that runs; `counts` says how many servers have it in which state."""

    id: str
    text: str
    sinks: tuple[str, ...]
    topics: tuple[str, ...]
    kind: str
    state: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Queries:
    """The answer to SHOW QUERIES."""

    statement: str
    found: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A stream or table in detail; `constraints` are the sources that are made from it."""

    name: str
    kind: SourceKind
    columns: tuple[Column, ...]
    topic: str
    key_format: str
    value_format: str
    window: str | None
    timestamp: str
    partitions: int
    replication: int
    statement: str
    readers: tuple[Query, ...]
    writers: tuple[Query, ...]
    constraints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A query in detail; `group` is the consumer group that reads its sources, `problems` what has gone wrong in it."""

    id: str
    text: str
    columns: tuple[Column, ...]
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    topology: str
    plan: str
    properties: Mapping[str, Any]
    kind: str
    state: str | None
    group: str | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Other:
    """An answer of a kind that has no class of its own, as it came."""

    statement: str
    kind: str
    content: Mapping[str, Any] = field(repr=False)


Result = Command | Notice | Sources | Queries | Description | Explanation | Other


Json = Mapping[str, Any]

LACKING = (KeyError, TypeError, ValueError, AttributeError)
"""What the readers raise for an answer that lacks something."""


def result(entity: Json) -> Result:
    """What one statement came to."""
    kind = str(entity["@type"])
    read = RESULTS.get(kind)
    return Other(str(entity.get("statementText", "")), kind, entity) if read is None else read(entity)


def server_info(content: Json) -> ServerInfo:
    found = content["KsqlServerInfo"]
    return ServerInfo(
        str(found["version"]), str(found["ksqlServiceId"]), str(found["kafkaClusterId"]), str(found.get("serverStatus", ""))
    )


def health(content: Json) -> Health:
    parts = {str(name): bool(part["isHealthy"]) for name, part in content.get("details", {}).items()}
    return Health(bool(content["isHealthy"]), str(content.get("serverState", "")), parts)


def hosts(content: Json) -> tuple[Host, ...]:
    found = content["clusterStatus"].items()
    return tuple(Host(str(name), bool(host["hostAlive"]), int(host["lastStatusUpdateMs"])) for name, host in found)


def command_status(command: Command, status: Json) -> Command:
    """The command with a status that was asked for later."""
    return replace(command, status=str(status["status"]), message=str(status["message"]), query_id=status.get("queryId"))


def _command(entity: Json) -> Command:
    warnings = tuple(str(each.get("message", each)) for each in entity.get("warnings", ()))
    begun = Command(str(entity["statementText"]), str(entity["commandId"]), "", "", None, warnings)
    return command_status(begun, entity["commandStatus"])


def _notice(entity: Json) -> Notice:
    return Notice(str(entity["statementText"]), str(entity["message"]))


def _sources(kind: SourceKind, member: str) -> Callable[[Json], Sources]:
    def read(entity: Json) -> Sources:
        return Sources(str(entity["statementText"]), tuple(_source(kind, each) for each in entity[member]))

    return read


def _source(kind: SourceKind, found: Json) -> Source:
    return Source(
        str(found["name"]),
        kind,
        str(found["topic"]),
        str(found["keyFormat"]),
        str(found["valueFormat"]),
        bool(found.get("isWindowed")),
    )


def _queries(entity: Json) -> Queries:
    return Queries(str(entity["statementText"]), tuple(map(_query, entity["queries"])))


def _query(found: Json) -> Query:
    return Query(
        str(found["id"]),
        str(found["queryString"]),
        tuple(map(str, found["sinks"])),
        tuple(map(str, found["sinkKafkaTopics"])),
        str(found["queryType"]),
        str(found["state"]),
        dict(found["statusCount"]),
    )


def _columns(fields: list[Json]) -> tuple[Column, ...]:
    # The keys of tables and streams are marked in the same way.
    return tuple(Column(str(each["name"]), type_in(each["schema"]), each.get("type") == "KEY") for each in fields)


def _description(entity: Json) -> Description:
    found = entity["sourceDescription"]
    return Description(
        str(found["name"]),
        found["type"],
        _columns(found["fields"]),
        str(found["topic"]),
        str(found["keyFormat"]),
        str(found["valueFormat"]),
        found["windowType"],
        str(found["timestamp"]),
        int(found["partitions"]),
        int(found["replication"]),
        str(found["statement"]),
        tuple(map(_query, found["readQueries"])),
        tuple(map(_query, found["writeQueries"])),
        tuple(map(str, found.get("sourceConstraints", ()))),
    )


def _explanation(entity: Json) -> Explanation:
    found = entity["queryDescription"]
    return Explanation(
        str(found["id"]),
        str(found["statementText"]),
        _columns(found["fields"]),
        tuple(map(str, found["sources"])),
        tuple(map(str, found["sinks"])),
        str(found["topology"]),
        str(found["executionPlan"]),
        dict(found["overriddenProperties"]),
        str(found.get("queryType", "")),
        found.get("state"),
        found.get("consumerGroupId"),
        tuple(str(each.get("errorMessage", each)) for each in found.get("queryErrors", ())),
    )


RESULTS: dict[str, Callable[[Json], Result]] = {
    "currentStatus": _command,
    "warning_entity": _notice,
    "streams": _sources("STREAM", "streams"),
    "tables": _sources("TABLE", "tables"),
    "queries": _queries,
    "sourceDescription": _description,
    "queryDescription": _explanation,
}
