"""A broker that lets in users by password and TLS, and lets them do what was granted only."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

from kandle.errors import AccessError, KandleError, OptionsError
from tests.brokers.needed import kafka_or_skip
from tests.cli.test_kafka import AHEAD, Shop
from tests.kafka.summing import Application, summed, wait_until
from tests.waiting import LIMIT, wait_for
from tools.kafka.cluster import Cluster
from tools.kafka.ports import HOST, free_ports

USER, PASSWORD = "kandle", "swordfish-71"
READ, WRITE, CREATE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE
DESCRIBE, CONFIGS = AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
TOPIC, GROUP, TRANSACTIONAL = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID


def certificate(folder: Path) -> tuple[Path, Path]:
    """Create a key with its own certificate in one file, for the broker, and the certificate alone, for clients."""
    key, public, both = folder / "key.pem", folder / "certificate.pem", folder / "broker.pem"
    subject = ["-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{HOST}"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", str(key), "-out", str(public)], check=True, capture_output=True)
    both.write_text(key.read_text() + public.read_text())
    return both, public


class Guarded:
    """The cluster, and how a user gets in."""

    def __init__(self, cluster: Cluster, tls: int, authority: Path) -> None:
        self.cluster, self.tls, self.authority = cluster, tls, authority
        self._admin = AdminClient({**cluster.client_properties(), "log_level": 0})

    def settings(self, tls: bool = False, patience: str = "2s", **properties: Any) -> dict[str, Any]:
        """Options of a context whose process is this user's."""
        own = {key: value for key, value in self.cluster.client_properties(USER).items() if key != "bootstrap.servers"}
        bootstrap = self.cluster.bootstrap
        if tls:
            bootstrap = f"{HOST}:{self.tls}"
            own |= {"security.protocol": "SASL_SSL", "ssl.ca.location": str(self.authority)}
        kafka = {"bootstrap": bootstrap, "patience": patience, "properties": own | properties}
        return {"log": {"kind": "kafka"}, "kafka": kafka, "runtime": {"instance": "one"}}

    def change(self, kind: ResourceType, name: str, *operations: AclOperation, granted: bool = True) -> None:
        """Grant a user operations on what has names that begin so, or take them away."""
        for operation in operations:
            rule = AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
            denial = AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.DENY)
            for future in self._admin.create_acls([rule if granted else denial]).values():
                future.result(LIMIT)

    def grant_all(self, app: Application) -> None:
        """Grant what a worker needs according to the documentation."""
        for name in ("_kandle_", app.name):
            self.change(TOPIC, name, READ, WRITE, CREATE, DESCRIBE, CONFIGS)
        self.change(GROUP, f"kandle-{app.name}", READ, DESCRIBE)
        self.change(TRANSACTIONAL, f"kandle-{app.name}", WRITE, DESCRIBE)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Start a broker with passwords, and with TLS at its own port."""
    kafka_or_skip()
    both, authority = certificate(tmp_path_factory.mktemp("tls"))
    plain, tls, controller = free_ports(3)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "listeners": f"CLIENTS://{HOST}:{plain},TLS://{HOST}:{tls},CONTROLLER://{HOST}:{controller}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,TLS:SASL_SSL,CONTROLLER:SASL_PLAINTEXT",
        "listener.name.tls.plain.sasl.jaas.config": f'{module} user_{USER}="{PASSWORD}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(both),
    }
    with Cluster(secured=True, users={USER: PASSWORD}, ports=[plain], properties=properties) as cluster:
        yield Guarded(cluster, tls, authority)


def refused(app: Application, settings: dict[str, Any], *words: str) -> None:
    """Opening the context, or its worker, ends with an AccessError that has these words, and never the password."""
    with pytest.raises(KandleError) as caught, app.context.open(**settings) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: market.problem is not None)
        assert market.problem is not None
        raise market.problem
    text = str(caught.value)
    assert isinstance(caught.value, AccessError)
    assert all(word in text for word in words), text
    assert PASSWORD not in text


def test_a_user_with_the_documented_rights_sums_ticks_over_tls(guarded: Guarded) -> None:
    app = Application()
    guarded.grant_all(app)
    with app.context.open(**guarded.settings(tls=True, patience="2m")) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)


def test_a_wrong_password_is_named_and_not_shown(guarded: Guarded) -> None:
    refused(
        Application(),
        guarded.settings(tls=False, **{"sasl.password": PASSWORD + "x"}),
        "Invalid username or password",
        "sasl.username, sasl.password",
    )


def test_a_certificate_that_is_not_there_or_of_nobody_known_is_named(guarded: Guarded) -> None:
    app = Application()
    with pytest.raises(OptionsError, match=r"ssl.ca.location.*kafka.properties"):
        app.context.open(**guarded.settings(tls=True, **{"ssl.ca.location": "/none.pem"})).__enter__()
    with pytest.raises(AccessError, match=r"certificate verify failed.*ssl\.\* in the options kafka.properties"):
        app.context.open(**guarded.settings(tls=True, **{"ssl.ca.location": "probe"})).__enter__()


@pytest.mark.parametrize(
    ("kind", "prefix", "operation", "words"),
    [
        (TOPIC, "{}_ticks", READ, ("topic {}_ticks", "Read")),
        (TOPIC, "{}_ticks", DESCRIBE, ("topic {}_ticks", "Describe")),
        (TOPIC, "{}_sums", WRITE, ("{}_sums", "Write")),
        (TOPIC, "{}_sums", CREATE, ("topic {}_sums", "Create")),
        (TRANSACTIONAL, "kandle-{}", WRITE, ("transactional id kandle-{}_sums", "Write")),
        (GROUP, "kandle-{}", READ, ("group kandle-{}_sums", "Read")),
    ],
    ids=["read", "describe", "write", "create", "transaction", "group"],
)
def test_what_is_refused_is_named_with_the_right_that_is_missing(
    guarded: Guarded, kind: ResourceType, prefix: str, operation: AclOperation, words: tuple[str, ...]
) -> None:
    app = Application()
    guarded.grant_all(app)
    guarded.change(kind, prefix.format(app.name), operation, granted=False)
    refused(app, guarded.settings(), *(word.format(app.name, app.name) for word in words))


CONFIGURATION = """
[kafka]
bootstrap = "{bootstrap}"
patience = "{patience}"
properties = {{ {properties} }}
"""


class Secret(Shop):
    """A shop whose kandle.toml has a password; all that its commands say is kept."""

    def __init__(self, folder: Path, guarded: Guarded, password: str = f'"{PASSWORD}"', patience: str = "20s") -> None:
        super().__init__(folder, guarded.cluster.bootstrap)
        own = {key: json.dumps(value) for key, value in guarded.cluster.client_properties(USER).items() if key.startswith("s")}
        properties = ", ".join(f'"{key}" = {value}' for key, value in (own | {"sasl.password": password}).items())
        text = CONFIGURATION.format(bootstrap=guarded.cluster.bootstrap, properties=properties, patience=patience)
        (folder / "kandle.toml").write_text(text)
        self.said = ""

    def command(self, *words: str, code: int = 0) -> tuple[str, str]:
        said = super().command(*words, code=code)
        self.said += "".join(said)
        return said

    def work(self) -> None:
        """Have a worker make a bar of a tick."""
        worker = self.start("-m", "kandle.cli", "run", "app:App", "--log", self.log)
        try:
            self.said += worker.next_line()
            self.said += self.add(AHEAD)
            wait_for(self.bars, expected="a bar", check=worker.check)
            worker.send(signal.SIGTERM)
            self.said += "".join(worker.ended())
        finally:
            worker.kill()


def test_doctor_names_every_right_that_is_missing_and_no_command_shows_the_password(guarded: Guarded, tmp_path: Path) -> None:
    shop = Secret(tmp_path, guarded)
    for name in ("_kandle_", shop.name):
        guarded.change(TOPIC, name, READ, WRITE, CREATE, DESCRIBE, CONFIGS)
    group = f"kandle-{shop.name}_sums"
    guarded.change(GROUP, "app-", READ, DESCRIBE)
    guarded.change(GROUP, "kandle-", READ, DESCRIBE)
    guarded.change(TRANSACTIONAL, "kandle-", WRITE, DESCRIBE)
    shop.work()
    said = shop.run("doctor", "app:App")
    assert "this user may read and write the topics" in said and "this user may join the groups and write transactions" in said
    guarded.change(TOPIC, f"{shop.name}_ticks", WRITE, granted=False)
    guarded.change(TOPIC, f"{shop.name}_sums_changelog", DESCRIBE, granted=False)
    guarded.change(GROUP, group, READ, granted=False)
    guarded.change(TRANSACTIONAL, group, WRITE, granted=False)
    said = shop.run("doctor", "app:App", code=1)
    assert f"topic {shop.name}_ticks: this user lacks the rights Write" in said
    assert f"topic {shop.name}_sums_changelog: " in said and "allow this user Read and Describe on it" in said
    assert f"group {group}: this user lacks the rights Read" in said
    assert f"transactional id {group}-kandle-doctor" in said and "allow this user Write and Describe" in said
    assert f"transactional id {group}-" in shop.run("run", "app:App", code=2) or f"group {group}" in shop.said
    assert PASSWORD not in shop.said


@pytest.mark.parametrize("written", [f'"{PASSWORD}x"', f'["{PASSWORD}"]'], ids=["wrong", "no text"])
def test_a_password_that_does_not_do_is_not_shown_either(guarded: Guarded, tmp_path: Path, written: str) -> None:
    said = Secret(tmp_path, guarded, written, "2s").run("doctor", "app:App", code=1)
    assert "sasl.password" in said and PASSWORD not in said
