"""What the client library does not do: close, or say where a record is."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

import kandle.log.kafka.connections
from kandle.errors import UnavailableError
from kandle.log.kafka.connections import Clients
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.producer import DeliveryReports, Transactions
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.records import EncodedWrite
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND
from tests.log.building import topic_spec, write
from tests.waiting import wait_until


class Stuck:
    """A client that closes when it is allowed to."""

    def __init__(self) -> None:
        self.is_allowed = threading.Event()

    def close(self) -> None:
        self.is_allowed.wait()


class Broken:
    """A client that cannot be closed."""

    def close(self) -> None:
        raise RuntimeError("it was closed before")


@pytest.fixture
def clients() -> Clients:
    return Clients(KafkaSettings("127.0.0.1:1"), SystemClock(), "test")


def test_a_client_that_does_not_close_is_left_behind(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kandle.log.kafka.connections, "CLOSE_LIMIT", 10 * MILLISECOND)
    stuck: Any = Stuck()
    with caplog.at_level(logging.WARNING):
        clients.close(stuck)
    assert "does not close; it is left behind" in caplog.text
    stuck.is_allowed.set()


def test_the_error_of_a_client_that_cannot_be_closed_reaches_the_caller(clients: Clients) -> None:
    broken: Any = Broken()
    with pytest.raises(RuntimeError, match="it was closed before"):
        clients.close(broken)


class Confirmed:
    """A record that was confirmed when it was sent again."""

    def offset(self) -> None:
        return None


def test_records_whose_place_brokers_do_not_say_are_counted_from_what_stands_behind_them(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, name = KafkaLog(KafkaSettings(bootstrap)), f"clients-{uuid.uuid4().hex[:8]}"
    log.ensure(topic_spec(name, partitions=2))
    append = log._shared.appender.append

    def appended(writes: Sequence[EncodedWrite], timestamp: int | None) -> list[int]:
        first = append(writes, timestamp)
        return [-1 if number in (0, 2) else at for number, at in enumerate(first)]

    monkeypatch.setattr(log._shared.appender, "append", appended)
    for before in (0, 6):
        writes = [write(name, range(3)), write(name, range(2)), write(name, range(5), 1), write(name, range(1)), write(name, [])]
        first = log.append(writes)
        assert first == [before, before + 3, before // 6 * 5, before + 5, before + 6]
    log.close()


def test_a_commit_that_was_made_somewhere_is_gone_back_to(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, name = KafkaLog(KafkaSettings(bootstrap, transaction=10 * SECOND)), f"clients-{uuid.uuid4().hex[:8]}"
    log.ensure(topic_spec(name))
    transactions = Transactions(log.clients, name, name)
    real = DeliveryReports.for_first

    def for_first(self: DeliveryReports, number: int) -> Any:
        return lambda error, message: real(self, number)(error, Confirmed())

    monkeypatch.setattr(DeliveryReports, "for_first", for_first)
    with pytest.raises(UnavailableError, match="it was made, but where its records are is not known"):
        transactions.commit([EncodedWrite(name, 0, [None], [b"1"])], None)
    # Brokers write the end of a transaction behind its records a moment after they have confirmed it.
    wait_until(lambda: log.ends(name) == [2], "the end of the transaction")
    monkeypatch.undo()
    assert transactions.commit([EncodedWrite(name, 0, [None], [b"2"])], None) == [2]
    transactions.close()
    log.close()
