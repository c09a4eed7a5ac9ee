"""A schema registry that is down, and schemas in it that do not fit: named, waited for, and nothing is a dead letter for it."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Annotated, Any

import pytest
from confluent_kafka import Producer

from kandle import Context, Precision
from kandle.errors import SchemaError, UnavailableError
from tests.kafka.reading import everything
from tests.kafka.summing import Application, settings, summed, wait_until
from tests.serde.serving import Server
from tests.waiting import LIMIT

DOWN = (503, {"error_code": 50301, "message": "no leader"})


def options(bootstrap: str, registry: Server) -> dict[str, Any]:
    return settings(bootstrap) | {"schema_registry": {"url": registry.url}}


def problem(market: Context) -> str:
    return market.health().queries[0].problem or ""


def of_a_newer_schema(registry: Server, bootstrap: str, app: Application) -> tuple[bytes, bytes]:
    """Return a tick as a program writes it whose schema has one more field, which is unknown here."""
    subject, (first,) = f"{app.ticks}-value", everything(bootstrap, app.ticks)
    latest = registry.schemas.latest(subject)
    assert latest is not None
    schema = json.loads(latest.schema)
    schema["fields"].append({"name": "extra", "type": ["null", "string"], "default": None})
    number = registry.schemas.register(subject, json.dumps(schema))
    return first.key(), b"\0" + struct.pack(">I", number) + first.value()[5:] + b"\0"


def test_a_worker_waits_for_a_registry_that_is_down_and_rejects_nothing(
    bootstrap: str, registry: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application()
    registry.broken = DOWN
    with app.context.open(**options(bootstrap, registry)) as market:
        said = f"the schema registry at {registry.url} (schema_registry.url) gives no answer"
        with pytest.raises(UnavailableError) as caught:
            market.ticks.add(app.one(1))
        assert said in str(caught.value) and "no leader" in str(caught.value)
        registry.broken = None
        market.ticks.add(app.one(1, ahead=2))
        wait_until(lambda: market.health().queries[0].counters.events == 1, market)
        key, value = of_a_newer_schema(registry, bootstrap, app)
        registry.broken = DOWN
        producer = Producer({"bootstrap.servers": bootstrap})
        producer.produce(app.ticks, key=key, value=value, partition=0)
        assert producer.flush(LIMIT) == 0
        wait_until(lambda: said in problem(market), market)
        # What is known already needs no registry.
        market.ticks.add(app.one(10, ahead=2))
        registry.broken = None
        wait_until(lambda: summed(market, app) == (12, 3), market)
        assert (problem(market), market.health().queries[0].counters.rejected) == ("", 0)
    assert caplog.text.count(f"{app.group}: {said}") == 1


def test_a_schema_of_somebody_else_that_does_not_fit_is_named(bootstrap: str, registry: Server) -> None:
    app = Application()
    schema = {"type": "record", "name": "Tick", "fields": [{"name": "time", "type": "string"}]}
    registry.schemas.register(f"{app.ticks}-value", json.dumps(schema))
    with app.context.open(**options(bootstrap, registry)) as market:
        with pytest.raises(SchemaError, match=f"subject {app.ticks}-value, field time: it is string in the schema and datetime"):
            market.ticks.add(app.one(1))
        assert everything(bootstrap, app.ticks) == []


def test_a_decimal_of_another_scale_is_named_at_the_start(bootstrap: str, registry: Server) -> None:
    app = Application()
    other = Application(name=app.name, price=Annotated[Decimal, Precision(18, 2)])
    with other.context.open(access="write_only", **options(bootstrap, registry)) as market:
        market.ticks.add(other.one(1))
    with pytest.raises(SchemaError, match=rf"topic {app.ticks}, column price: .*\(18, 2\) in the topic and .*\(18, 6\) in"):
        app.context.open(**options(bootstrap, registry)).__enter__()
