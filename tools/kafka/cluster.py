"""A cluster of one or three brokers in a folder, each of which is also a controller.

with Cluster(brokers=3) as cluster:
    producer = Producer(cluster.client_properties())
    cluster.broker(2).kill()
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.kafka.broker import Broker, wait_for_brokers
from tools.kafka.errors import PortInUseError, SettingsError, StartError
from tools.kafka.libraries import HERE, java, libraries
from tools.kafka.ports import HOST, check_free, free_ports
from tools.kafka.properties import ADMIN, COMMON, Node, copies, place, security, sessions, to_text
from tools.kafka.storage import cluster_id, format_data

SMALL = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Options of Java for a broker that starts fast and takes little memory."""
Properties = dict[str, str | int | float | bool]
"""What clients of confluent-kafka take."""
FAST = ("-Xms1g", "-Xmx1g")
"""Options of Java for benchmarks: all of its compilers, and room."""
ADMIN_PASSWORD = "admin-secret"
SIZES = (1, 3)
PORTS = range(1, 65_536)
PORT_CHOICES = 3
"""How often ports are chosen again before a start is given up."""
ADDRESS_IN_USE = os.strerror(errno.EADDRINUSE)
"""What Java says as well, on the systems that this tool runs on."""


@dataclass(kw_only=True)
class Cluster:
    """Brokers on loopback; use it with `with`, or call `start` and then `close`, from the main thread.

    `folder` keeps the data, those of a temporary one are gone at the end; `ports` are the brokers', free ones by default. If
    `secured`, only `admin` and `users`, by name and password, get in, and only `admin` may do anything until it grants more.
    `session_minimum` is in milliseconds; `properties` are further ones of the brokers; `jvm` are options of Java.
    """

    brokers: int = 1
    folder: Path | None = None
    ports: Sequence[int] = ()
    secured: bool = False
    users: Mapping[str, str] = field(default_factory=dict)
    session_minimum: int = 100
    properties: Mapping[str, str] = field(default_factory=dict)
    jvm: Sequence[str] = SMALL
    _temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, init=False, repr=False)
    _brokers: list[Broker] = field(default_factory=list, init=False, repr=False)
    _chooses_ports: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.brokers not in SIZES:
            raise SettingsError(f"a cluster cannot have {self.brokers} brokers; take 1 or 3")
        if self.users and not self.secured:
            raise SettingsError("users have no effect without passwords; set secured=True as well")
        self._chooses_ports = not self.ports
        self.ports = tuple(self.ports) or tuple(free_ports(self.brokers))
        if len(set(self.ports)) != self.brokers:
            raise SettingsError(f"{self.brokers} brokers need as many different ports, not {list(self.ports)}")
        if wrong := [port for port in self.ports if port not in PORTS]:
            raise SettingsError(f"there is no port {wrong[0]}; take one from {PORTS[0]} to {PORTS[-1]}")

    @property
    def bootstrap(self) -> str:
        """Addresses of all brokers, as clients take them."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    def client_properties(self, user: str = ADMIN) -> Properties:
        """What a client of confluent-kafka needs to connect, as a user if the cluster is secured."""
        return self._properties_for(self.bootstrap, user)

    def broker(self, number: int) -> Broker:
        """A broker by its number, from 1; SettingsError before the first start."""
        if not 1 <= number <= len(self._brokers):
            raise SettingsError(f"there is no broker {number}; {len(self._brokers)} were started, counted from 1")
        return self._brokers[number - 1]

    def start(self) -> None:
        """Start all brokers that do not run, and wait until each of them answers and knows all others.

        A port that was free when it was chosen can be in use a moment later: brokers that nobody knows yet then get other ones.
        """
        for _ in range(PORT_CHOICES if self._chooses_ports and not self._brokers else 0):
            try:
                return self._start()
            except (PortInUseError, StartError) as error:
                if ADDRESS_IN_USE not in str(error):
                    raise
            self._brokers, self.ports = [], tuple(free_ports(self.brokers))
        self._start()

    def _start(self) -> None:
        try:
            self._brokers = self._brokers or self._prepared()
            for broker in self._brokers:
                if not broker.is_running:
                    broker.launch()
            wait_for_brokers(self._brokers, set(range(1, self.brokers + 1)))
        except BaseException:
            self._kill()
            raise

    def stop(self) -> None:
        """Have all brokers end, and keep the data for another start."""
        for broker in self._brokers:
            broker.tell_to_stop()
        for broker in self._brokers:
            broker.wait_for_end()

    def close(self) -> None:
        """Stop all brokers; those whose data nobody will see again are killed, which is faster."""
        if self._temporary is None:
            return self.stop()
        self._kill()
        self._temporary.cleanup()
        self._temporary = None
        self._brokers = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _kill(self) -> None:
        for broker in self._brokers:
            broker.kill()

    def _prepared(self) -> list[Broker]:
        """The brokers of this cluster, with their files in the folder, and no process yet."""
        for port in self.ports:
            check_free(port)
        command = [java(), "-cp", f"{libraries()}/*", "-XX:-UsePerfData", f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}"]
        folder = self._made_folder()
        identifier = cluster_id(folder, self.brokers)
        nodes = self._nodes(folder)
        settings = [self._settings(node, nodes) for node in nodes]
        fresh = [path for node, path in zip(nodes, settings, strict=True) if not node.is_formatted]
        format_data([*command, *SMALL], identifier, fresh)
        return [
            Broker(node, [*command, *self.jvm, "kafka.Kafka", str(path)], self._properties_for(node.address, ADMIN), _log(node))
            for node, path in zip(nodes, settings, strict=True)
        ]

    def _made_folder(self) -> Path:
        if self.folder is None:
            self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="kandle-kafka-")
            return Path(self._temporary.name).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder.resolve()

    def _nodes(self, folder: Path) -> list[Node]:
        # Only brokers talk to controllers, so those may have other ports at every start.
        ports = zip(self.ports, free_ports(self.brokers), strict=True)
        return [Node(number, *pair, folder / f"broker-{number}" / "data") for number, pair in enumerate(ports, 1)]

    def _settings(self, node: Node, nodes: Sequence[Node]) -> Path:
        rows = COMMON | copies(self.brokers) | place(node, nodes) | sessions(self.session_minimum) | security(self._passwords)
        path = node.folder.parent / "server.properties"
        path.parent.mkdir(exist_ok=True)
        path.write_text(to_text(rows | dict(self.properties)), encoding="ascii")
        return path

    @property
    def _passwords(self) -> dict[str, str]:
        return {ADMIN: ADMIN_PASSWORD, **self.users} if self.secured else {}

    def _properties_for(self, bootstrap: str, user: str) -> Properties:
        if not self.secured:
            return {"bootstrap.servers": bootstrap}
        if user not in self._passwords:
            raise SettingsError(f"there is no user {user!r}; there are {', '.join(self._passwords)}")
        return {
            "bootstrap.servers": bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": self._passwords[user],
        }


def _log(node: Node) -> Path:
    return node.folder.parent / "output.log"
