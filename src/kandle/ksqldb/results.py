"""Responses of the server as objects: its state, its streams, tables and queries, and the results of statements.

The functions read the JSON of the server, and raise one of `LACKING` where it lacks a member.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kandle.errors import KsqlError
from kandle.ksqldb.columns import ResultColumn, type_in

SourceKind = Literal["STREAM", "TABLE"]

SUCCESS, ERROR, TERMINATED = "SUCCESS", "ERROR", "TERMINATED"
FINISHED = (SUCCESS, ERROR, TERMINATED)

TESTED_RELEASE = (7, 4)
"""The release with which the statements of kandle are tested."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Version and names of the server; `service_id` is part of the names of its topics and consumer groups."""

    version: str
    service_id: str
    cluster_id: str
    status: str

    @property
    def release(self) -> tuple[int, ...]:
        """The numbers of the version; raises KsqlError if it does not start with a number."""
        numbers = re.match(r"v?(\d+(?:\.\d+)*)", self.version)
        if numbers is None:
            raise KsqlError(f"ksqlDB reports {self.version!r} as its version, which is not a number; check the url")
        return tuple(map(int, numbers[1].split(".")))

    @property
    def doubt(self) -> str | None:
        """A warning if kandle is not tested with this release; otherwise None."""
        if self.release[: len(TESTED_RELEASE)] == TESTED_RELEASE:
            return None
        tested = ".".join(map(str, TESTED_RELEASE))
        return (
            f"the version of ksqlDB is {self.version}, but kandle is tested with {tested}: "
            "compare some final bars with those of `kandle backfill`"
        )


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """Whether the server and each of its parts are healthy."""

    is_healthy: bool
    state: str
    parts: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class ServerHost:
    """One server of a cluster; `updated` is the time of its last heartbeat, in milliseconds since the epoch."""

    name: str
    is_alive: bool
    updated: int


@dataclass(frozen=True, slots=True)
class Command:
    """The execution of a statement that changes something; `query_id` is the query that it has started."""

    statement: str
    id: str
    status: str
    message: str
    query_id: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """The result of a statement that has changed nothing, with the reason."""

    statement: str
    message: str


@dataclass(frozen=True, slots=True)
class ListedSource:
    """A stream or table as SHOW STREAMS and SHOW TABLES list it."""

    name: str
    kind: SourceKind
    topic: str
    key_format: str
    value_format: str
    is_windowed: bool


@dataclass(frozen=True, slots=True)
class SourceList:
    """The result of SHOW STREAMS or SHOW TABLES."""

    statement: str
    sources: tuple[ListedSource, ...]


@dataclass(frozen=True, slots=True)
class RunningQuery:
    """A persistent or push query as SHOW QUERIES lists it; `counts` is the number of servers by its state there."""

    id: str
    text: str
    sinks: tuple[str, ...]
    topics: tuple[str, ...]
    kind: str
    state: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class QueryList:
    """The result of SHOW QUERIES."""

    statement: str
    queries: tuple[RunningQuery, ...]


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The result of DESCRIBE: a stream or table in detail.

    `readers` and `writers` are the queries that use it, `constraints` the streams and tables that are created from it.
    """

    name: str
    kind: SourceKind
    columns: tuple[ResultColumn, ...]
    topic: str
    key_format: str
    value_format: str
    window: str | None
    timestamp: str
    partitions: int
    replication: int
    statement: str
    readers: tuple[RunningQuery, ...]
    writers: tuple[RunningQuery, ...]
    constraints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueryDescription:
    """The result of EXPLAIN: a query in detail.

    `group` is the consumer group that reads its sources, `problems` are the errors that have occurred in it.
    """

    id: str
    text: str
    columns: tuple[ResultColumn, ...]
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
class UnknownResult:
    """The JSON of a result that has no class of its own."""

    statement: str
    kind: str
    content: Mapping[str, Any] = field(repr=False)


Result = Command | Notice | SourceList | QueryList | SourceDescription | QueryDescription | UnknownResult

Json = Mapping[str, Any]

LACKING = (KeyError, TypeError, ValueError, AttributeError)
"""Exceptions of the functions below for JSON that lacks a member."""


def result(entity: Json) -> Result:
    """Read the result of one statement."""
    kind = str(entity["@type"])
    read = RESULTS.get(kind)
    return UnknownResult(str(entity.get("statementText", "")), kind, entity) if read is None else read(entity)


def server_info(content: Json) -> ServerInfo:
    """Read the response of /info."""
    info = content["KsqlServerInfo"]
    return ServerInfo(
        str(info["version"]), str(info["ksqlServiceId"]), str(info["kafkaClusterId"]), str(info.get("serverStatus", ""))
    )


def health(content: Json) -> ServerHealth:
    """Read the response of /healthcheck."""
    parts = {str(name): bool(part["isHealthy"]) for name, part in content.get("details", {}).items()}
    return ServerHealth(bool(content["isHealthy"]), str(content.get("serverState", "")), parts)


def hosts(content: Json) -> tuple[ServerHost, ...]:
    """Read the response of /clusterStatus."""
    members = content["clusterStatus"].items()
    return tuple(ServerHost(str(name), bool(host["hostAlive"]), int(host["lastStatusUpdateMs"])) for name, host in members)


def command_status(command: Command, status: Json) -> Command:
    """Return the command with the status of a later response of /status."""
    return replace(command, status=str(status["status"]), message=str(status["message"]), query_id=status.get("queryId"))


def _command(entity: Json) -> Command:
    warnings = tuple(str(warning.get("message", warning)) for warning in entity.get("warnings", ()))
    begun = Command(str(entity["statementText"]), str(entity["commandId"]), "", "", None, warnings)
    return command_status(begun, entity["commandStatus"])


def _notice(entity: Json) -> Notice:
    return Notice(str(entity["statementText"]), str(entity["message"]))


def _sources(kind: SourceKind, member: str) -> Callable[[Json], SourceList]:
    def read(entity: Json) -> SourceList:
        return SourceList(str(entity["statementText"]), tuple(_source(kind, source) for source in entity[member]))

    return read


def _source(kind: SourceKind, content: Json) -> ListedSource:
    return ListedSource(
        str(content["name"]),
        kind,
        str(content["topic"]),
        str(content["keyFormat"]),
        str(content["valueFormat"]),
        bool(content.get("isWindowed")),
    )


def _queries(entity: Json) -> QueryList:
    return QueryList(str(entity["statementText"]), tuple(map(_query, entity["queries"])))


def _query(content: Json) -> RunningQuery:
    return RunningQuery(
        str(content["id"]),
        str(content["queryString"]),
        tuple(map(str, content["sinks"])),
        tuple(map(str, content["sinkKafkaTopics"])),
        str(content["queryType"]),
        str(content["state"]),
        dict(content["statusCount"]),
    )


def _columns(fields: list[Json]) -> tuple[ResultColumn, ...]:
    # The keys of tables and streams are marked in the same way.
    return tuple(ResultColumn(str(field["name"]), type_in(field["schema"]), field.get("type") == "KEY") for field in fields)


def _description(entity: Json) -> SourceDescription:
    content = entity["sourceDescription"]
    return SourceDescription(
        str(content["name"]),
        content["type"],
        _columns(content["fields"]),
        str(content["topic"]),
        str(content["keyFormat"]),
        str(content["valueFormat"]),
        content["windowType"],
        str(content["timestamp"]),
        int(content["partitions"]),
        int(content["replication"]),
        str(content["statement"]),
        tuple(map(_query, content["readQueries"])),
        tuple(map(_query, content["writeQueries"])),
        tuple(map(str, content.get("sourceConstraints", ()))),
    )


def _explanation(entity: Json) -> QueryDescription:
    content = entity["queryDescription"]
    return QueryDescription(
        str(content["id"]),
        str(content["statementText"]),
        _columns(content["fields"]),
        tuple(map(str, content["sources"])),
        tuple(map(str, content["sinks"])),
        str(content["topology"]),
        str(content["executionPlan"]),
        dict(content["overriddenProperties"]),
        str(content.get("queryType", "")),
        content.get("state"),
        content.get("consumerGroupId"),
        tuple(str(error.get("errorMessage", error)) for error in content.get("queryErrors", ())),
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
