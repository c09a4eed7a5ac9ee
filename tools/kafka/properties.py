"""What is in a broker's `server.properties`: one table for all, rows for its place in the cluster and for passwords."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.kafka.errors import SettingsError
from tools.kafka.ports import HOST

COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENTS",
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    # Kafka looks for what is over every few seconds or minutes; tests do not wait that long.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "log.cleaner.backoff.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # Taken at start, whole: the default of 128 MB is half of a small heap.
    "log.cleaner.dedupe.buffer.size": "8388608",
}
PASSWORDS = {
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
}
LISTENERS = ("CLIENTS", "CONTROLLER")
ADMIN = "admin"
"""The user who may do everything, and as whom brokers speak with each other."""


@dataclass(frozen=True)
class Node:
    """One broker's number, from 1, its two ports and the folder of its data."""

    number: int
    port: int
    controller_port: int
    folder: Path

    def __post_init__(self) -> None:
        if "," in str(self.folder):
            raise SettingsError(f"Kafka takes a comma for the end of a folder's name; choose another folder than {self.folder}")

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"{HOST}:{self.port}"

    @property
    def is_formatted(self) -> bool:
        """Whether Kafka has prepared its folder."""
        return (self.folder / "meta.properties").is_file()


def place(node: Node, nodes: Sequence[Node]) -> dict[str, str]:
    """Rows that say which broker of which cluster it is."""
    voters = (f"{each.number}@{HOST}:{each.controller_port}" for each in nodes)
    return {
        "node.id": str(node.number),
        "controller.quorum.voters": ",".join(voters),
        "listeners": f"CLIENTS://{HOST}:{node.port},CONTROLLER://{HOST}:{node.controller_port}",
        "log.dirs": str(node.folder),
    }


def copies(brokers: int) -> dict[str, str]:
    """Rows for as many copies of everything as there are brokers; with three, one may be down."""
    needed = min(2, brokers)
    copied = (
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "share.coordinator.state.topic.replication.factor",
    )
    least = ("min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr")
    return dict.fromkeys(copied, str(brokers)) | dict.fromkeys(least, str(needed))


def sessions(minimum: int) -> dict[str, str]:
    """Rows for the shortest session, in milliseconds, that a member of a group may ask for, in both protocols."""
    return {
        "group.min.session.timeout.ms": str(minimum),
        "group.consumer.min.session.timeout.ms": str(minimum),
        "group.consumer.min.heartbeat.interval.ms": str(max(1, minimum // 4)),
    }


def security(users: Mapping[str, str]) -> dict[str, str]:
    """Rows by which only these users get in, by password, of whom the administrator may do everything."""
    if not users:
        return _protocol("PLAINTEXT")
    names = [f"listener.name.{listener.lower()}.plain.sasl.jaas.config" for listener in LISTENERS]
    return _protocol("SASL_PLAINTEXT") | PASSWORDS | {"super.users": f"User:{ADMIN}"} | dict.fromkeys(names, _module(users))


def _protocol(protocol: str) -> dict[str, str]:
    return {"listener.security.protocol.map": ",".join(f"{listener}:{protocol}" for listener in LISTENERS)}


def _module(users: Mapping[str, str]) -> str:
    for name in users:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise SettingsError(f"{name!r} is no name for a user; take letters, digits, _ and -")
    options = {"username": ADMIN, "password": users[ADMIN]} | {f"user_{name}": users[name] for name in users}
    words = (f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in options.items())
    return f"org.apache.kafka.common.security.plain.PlainLoginModule required {' '.join(words)};"


def to_text(rows: Mapping[str, str]) -> str:
    """Rows as the text of a file; Java reads the same escapes as JSON, and nothing but Latin 1 without them."""
    return "".join(f"{key}={json.dumps(value)[1:-1]}\n" for key, value in rows.items())
