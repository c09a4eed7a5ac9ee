"""Answers of the server, read from its JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kandle.ksql.rest.columns import Column, type_in
from kandle.ksql.rest.results import (
    Command,
    Description,
    Explanation,
    Health,
    Host,
    Notice,
    Other,
    Queries,
    Query,
    Result,
    ServerInfo,
    Source,
    SourceKind,
    Sources,
)

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
