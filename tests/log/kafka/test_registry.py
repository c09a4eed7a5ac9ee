from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from kandle.errors import AccessError, OptionsError, SchemaError, UnavailableError
from kandle.log.kafka.registry import HttpRegistry, RegistrySettings
from kandle.serde.avro import AvroFormat
from kandle.serde.compatibility import Compatibility
from tests.serde.building import TICK, record, ticks
from tests.serde.serving import Server, serving

QUICK = {"max.retries": 1, "retries.wait.ms": 1, "retries.max.wait.ms": 2, "timeout": 120}
ONE = json.dumps(record(("x", "int"), name="r"))
ONE_MORE = ONE.replace("]", ', {"name": "y", "type": "int", "default": 0}]')
TWO = json.dumps(record(("x", "int"), ("y", "int"), name="r"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def connected(server: Server, rule: Compatibility | None = None, **properties: Any) -> HttpRegistry:
    return HttpRegistry(RegistrySettings(server.url, QUICK | {k.replace("_", "."): v for k, v in properties.items()}, rule))


def test_a_schema_is_registered_and_found_again(server: Server) -> None:
    number = connected(server).register("ticks-value", ONE)
    registry = connected(server)
    assert json.loads(registry.schema(number) or "") == json.loads(ONE)
    latest = registry.latest("ticks-value")
    assert latest is not None
    assert (latest.number, latest.version, json.loads(latest.schema)) == (number, 1, json.loads(ONE))
    assert registry.register("ticks-value", ONE) == number


def test_records_written_by_one_process_are_read_by_another(server: Server) -> None:
    messages = AvroFormat("ticks", "value", TICK, connected(server)).encode(ticks(5))
    decoded = AvroFormat("ticks", "value", TICK, connected(server)).decode(messages)
    assert_frame_equal(decoded.frame, ticks(5))


def test_a_schema_is_asked_for_once(server: Server) -> None:
    registry = connected(server)
    number = server.schemas.register("a", ONE)
    assert registry.schema(number) == registry.schema(number)
    assert server.asked == [f"GET /schemas/ids/{number}"]


def test_unknown_subjects_and_numbers_are_none(server: Server) -> None:
    registry = connected(server)
    assert registry.latest("a") is None
    assert registry.schema(7) is None
    assert registry.differences("a", ONE) == ()


def test_what_was_unknown_may_be_known_later(server: Server) -> None:
    registry = connected(server)
    assert registry.schema(1) is None and registry.latest("a") is None
    server.schemas.register("a", ONE)
    assert registry.schema(1) is not None and registry.latest("a") is not None


def test_the_latest_schema_is_always_the_servers(server: Server) -> None:
    registry = connected(server)
    server.schemas.register("a", TWO)
    first = registry.latest("a")
    server.schemas.register("a", ONE)
    second = registry.latest("a")
    assert first is not None and second is not None
    assert (first.version, second.version) == (1, 2)


def test_an_incompatible_schema_is_refused_by_name(server: Server) -> None:
    registry = connected(server)
    registry.register("a-value", ONE)
    words = "the new schema cannot read older records: field y was not written and has no default"
    assert registry.differences("a-value", TWO) == (words,)
    with pytest.raises(SchemaError, match=r"subject a-value: the schema is not compatible: .*field y was not written"):
        registry.register("a-value", TWO)


def test_what_only_the_server_finds_incompatible_is_in_its_words(server: Server) -> None:
    registry = connected(server)
    registry.register("a-value", ONE)
    server.broken, server.broken_for = (409, {"error_code": 409, "message": "we do not want it"}), "POST"
    with pytest.raises(SchemaError, match=r"subject a-value: .*we do not want it"):
        registry.register("a-value", ONE_MORE)


def test_a_rule_is_set_for_new_subjects_only(server: Server) -> None:
    server.schemas.register("old", ONE)
    registry = connected(server, Compatibility.FULL)
    registry.register("new", ONE)
    registry.register("old", ONE)
    assert server.rules == {"new": "FULL"}


def test_an_invalid_schema_is_a_schema_error(server: Server) -> None:
    with pytest.raises(SchemaError, match=r"subject a: the schema registry does not take the schema: .*code 42201"):
        connected(server).register("a", '"strin"')


def test_schemas_of_other_kinds_are_refused(server: Server) -> None:
    number = server.schemas.register("a", ONE)
    server.kind = "PROTOBUF"
    with pytest.raises(SchemaError, match=f"schema {number} is a schema of PROTOBUF, not of AVRO"):
        connected(server).schema(number)


def test_user_and_password_are_sent_and_never_shown(server: Server) -> None:
    server.user = "market:s3cret"
    good = connected(server, basic_auth_user_info="market:s3cret")
    assert good.register("a", ONE) == 1
    bad = connected(server, basic_auth_user_info="market:wr0ng")
    with pytest.raises(AccessError) as caught:
        bad.register("a", ONE)
    assert "HTTP 401" in str(caught.value) and "basic.auth.user.info" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_no_message_or_text_of_settings_shows_a_secret(server: Server) -> None:
    settings = RegistrySettings(server.url.replace("//", "//market:s3cret@"), QUICK | {"ssl.key.password": "hidden"})
    assert settings.public_url == server.url
    assert "s3cret" not in repr(settings) and "hidden" not in repr(settings)
    with pytest.raises(OptionsError) as caught:
        HttpRegistry(settings)
    assert "s3cret" not in str(caught.value) and "hidden" not in str(caught.value)
    server.broken = (400, {"error_code": 400, "message": "bad password s3cret"})
    with pytest.raises(UnavailableError) as unavailable:
        HttpRegistry(RegistrySettings(settings.url, QUICK)).latest("a")
    assert "bad password ***" in str(unavailable.value)


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def test_a_registry_that_is_down_is_unavailable_by_url_and_option() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    registry = HttpRegistry(RegistrySettings(url, QUICK))
    with pytest.raises(
        UnavailableError, match=rf"schema registry at {url} \(schema_registry.url\) cannot be reached for schema 1"
    ):
        registry.schema(1)


def test_messages_are_not_rejected_because_the_registry_is_down() -> None:
    registry = HttpRegistry(RegistrySettings(f"http://127.0.0.1:{closed_port()}", QUICK))
    with pytest.raises(UnavailableError):
        AvroFormat("ticks", "value", TICK, registry).decode([b"\0\0\0\0\1abc"])


@pytest.mark.parametrize(
    "broken",
    [
        (404, b"<html>nothing here</html>"),
        (500, {"error_code": 50001, "message": "store failed"}),
        (503, b"<html>"),
        (429, {"error_code": 429, "message": "slowly"}),
    ],
)
def test_a_server_that_cannot_answer_now_is_unavailable(server: Server, broken: tuple[int, Any]) -> None:
    server.broken = broken
    with pytest.raises(UnavailableError, match=f"HTTP {broken[0]}"):
        connected(server).latest("a")


def test_an_answer_that_is_none_is_an_error(server: Server) -> None:
    server.broken = (200, b"<html>hello</html>")
    with pytest.raises(UnavailableError, match="gave no valid answer for schema 1"):
        connected(server).schema(1)


def test_unknown_properties_are_named() -> None:
    with pytest.raises(OptionsError, match=r"schema_registry.url.*basic\.auth\.user"):
        HttpRegistry(RegistrySettings("http://127.0.0.1:1", {"basic.auth.user": "market:s3cret"}))
