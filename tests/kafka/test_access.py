"""A broker that lets in users by password and TLS, and lets them do what was granted only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType

from kandle.errors import AccessError, KandleError, OptionsError
from tests.brokers.needed import kafka_or_skip
from tests.kafka.summing import Application, summed, wait_until
from tools.kafka.cluster import Cluster
from tools.kafka.ports import HOST, free_ports

USER, PASSWORD = "kandle", "swordfish-71"
READ, WRITE, CREATE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE
DESCRIBE, CONFIGS = AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
TOPIC, GROUP, TRANSACTIONAL = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key with its own certificate in one file, for the broker, and the certificate alone, for clients."""
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

    def settings(self, tls: bool = False, **properties: str) -> dict[str, Any]:
        """Options of a context whose process is this user's."""
        own = {key: value for key, value in self.cluster.client_properties(USER).items() if key != "bootstrap.servers"}
        bootstrap = self.cluster.bootstrap
        if tls:
            bootstrap = f"{HOST}:{self.tls}"
            own |= {"security.protocol": "SASL_SSL", "ssl.ca.location": str(self.authority)}
        kafka = {"bootstrap": bootstrap, "patience": "2s", "properties": own | properties}
        return {"log": {"kind": "kafka"}, "kafka": kafka, "runtime": {"instance": "one"}}

    def change(self, kind: ResourceType, name: str, *operations: AclOperation, granted: bool = True) -> None:
        """Grant a user operations on what has names that begin so, or take them away."""
        for operation in operations:
            rule = AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
            denial = AclBinding(kind, name, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.DENY)
            for future in self._admin.create_acls([rule if granted else denial]).values():
                future.result(10)

    def grant_all(self, app: Application) -> None:
        """What the documentation says that a worker needs."""
        for name in ("_kandle_", app.name, "hb_"):
            self.change(TOPIC, name, READ, WRITE, CREATE, DESCRIBE, CONFIGS)
        self.change(GROUP, f"app{app.name}", READ, DESCRIBE)
        self.change(TRANSACTIONAL, f"app{app.name}", WRITE, DESCRIBE)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A broker with passwords, and with TLS at a port of its own."""
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
    with pytest.raises(KandleError) as found, app.context.open(**settings) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: market.problem is not None)
        assert market.problem is not None
        raise market.problem
    text = str(found.value)
    assert isinstance(found.value, AccessError)
    assert all(word in text for word in words), text
    assert PASSWORD not in text


def test_a_user_with_the_documented_rights_sums_ticks_over_tls(guarded: Guarded) -> None:
    app = Application()
    guarded.grant_all(app)
    with app.context.open(**guarded.settings(tls=True)) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)


def test_a_wrong_password_is_named_and_not_shown(guarded: Guarded) -> None:
    refused(
        Application(),
        guarded.settings(**{"sasl.password": PASSWORD + "x"}),
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
        (TRANSACTIONAL, "app{}", WRITE, ("transactional id app{}-{}_sums", "Write")),
        (GROUP, "app{}", READ, ("group app{}-{}_sums", "Read")),
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
