"""Errors of the client library in our words."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError, KafkaException

from kandle.errors import FencedError, UnavailableError
from kandle.log.kafka.failures import ClientLog, translate_errors

FENCED = KafkaException(KafkaError(KafkaError._FENCED, "fenced by newer producer instance", fatal=True))


def test_a_client_that_ends_in_a_callback_is_understood_by_its_cause() -> None:
    with pytest.raises(FencedError, match="commit: fenced by newer producer instance") as caught, translate_errors("commit"):
        raise SystemError("a callback returned a result with an exception set") from FENCED
    assert caught.value.__cause__ is FENCED


def test_an_error_of_the_interpreter_stays_what_it_is() -> None:
    with pytest.raises(SystemError, match="other"), translate_errors("commit"):
        raise SystemError("other")


def test_a_commit_whose_records_were_not_delivered_is_worth_trying_again() -> None:
    undelivered = KafkaException(KafkaError(KafkaError._INCONSISTENT, "1 message(s) failed delivery", txn_requires_abort=True))
    with pytest.raises(UnavailableError, match="commit: 1 message"), translate_errors("commit"):
        raise undelivered


def test_the_end_of_one_client_which_another_replaces_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    ClientLog().log(logging.CRITICAL, "%s [%s] %s", "FATAL", "one#producer-1", "fenced by a newer producer")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "FATAL [one#producer-1] fenced by a newer producer")
    ]
