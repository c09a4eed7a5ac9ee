"""Errors of the client library in our words."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from kandle.errors import FencedError, OptionsError, UnavailableError
from kandle.log.kafka.failures import ClientLog, translate_errors, translate_settings_errors
from kandle.log.kafka.settings import ClientProperties, KafkaSettings
from kandle.log.port import GroupSpec

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


def test_more_copies_than_brokers_are_refused_with_the_settings_to_change() -> None:
    refused = KafkaException(KafkaError(KafkaError.INVALID_REPLICATION_FACTOR, "replication factor 5, 1 broker"))
    way_out = r"^topic ticks: .*; set replication of the topic, .* or kafka\.replication"
    with pytest.raises(OptionsError, match=way_out), translate_errors("topic ticks"):
        raise refused


@pytest.mark.parametrize(
    "properties",
    [{"no.such.property": "1"}, {"fetch.min.bytes": "many"}],
    ids=["unknown", "not a number"],
)
def test_a_property_that_the_library_refuses_is_named_with_its_section(properties: dict[str, str]) -> None:
    settings = KafkaSettings("nowhere:1", topics={"ticks": ClientProperties(consumer=properties)})
    with pytest.raises(OptionsError, match=r"; look at topics\.ticks\.consumer$"), translate_settings_errors(settings):
        Consumer(settings.for_member(GroupSpec("group", ("ticks",), "one")))
