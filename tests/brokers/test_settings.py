"""What a cluster refuses before anything is started, and how its rows are written for Java."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.kafka.cluster import Cluster
from tools.kafka.errors import SettingsError
from tools.kafka.properties import Node, copies, security, to_text


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cluster(brokers=2), "cannot have 2 brokers; take 1 or 3"),
        (lambda: Cluster(brokers=3, ports=[1, 2, 2]), "3 brokers need as many different ports"),
        (lambda: Cluster(ports=[70_000]), "there is no port 70000; take one from 1 to 65535"),
        (lambda: Cluster(users={"reader": "x"}), "set secured=True"),
        (lambda: Cluster().broker(1), "there is no broker 1; 0 were started"),
        (lambda: Node(1, 1, 2, Path("a,b")), "choose another folder than a,b"),
        (lambda: security({"admin": "x", "a b": "y"}), "'a b' is no name for a user"),
    ],
)
def test_settings_that_contradict_each_other_are_errors_by_name(build: Callable[[], object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build()


def test_with_three_brokers_one_may_be_down_and_one_broker_needs_no_other() -> None:
    assert copies(3)["min.insync.replicas"] == copies(3)["transaction.state.log.min.isr"] == "2"
    assert copies(3)["offsets.topic.replication.factor"] == "3"
    assert set(copies(1).values()) == {"1"}


def test_what_java_would_take_for_an_escape_or_another_letter_is_escaped() -> None:
    assert to_text({"log.dirs": "C:\\é"}) == "log.dirs=C:\\\\\\u00e9\n"
