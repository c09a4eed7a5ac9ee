"""What the client library tells of itself is among the metrics."""

from __future__ import annotations

from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.kafka.summing import Application, settings, summed, wait_until


def test_figures_of_the_client_library_are_in_the_health_of_a_query(bootstrap: str) -> None:
    app = Application()
    with app.context.open(**settings(bootstrap, statistics="100ms")) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)

        def figures() -> dict[str, int]:
            figures: dict[str, int] = market.health().to_dict()["queries"][0]["client"]
            return figures

        wait_until(lambda: figures().get("records_received", 0) > 0 and figures().get("records_sent", 0) > 0, market)
        assert figures()["bytes_received"] > 0 and figures()["bytes_sent"] > 0
        assert figures()["round_trip"] > 0
        assert figures()["request_errors"] == 0


def test_they_can_be_left_out(bootstrap: str) -> None:
    app = Application()
    with app.context.open(**settings(bootstrap, statistics="0s")) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)
        SystemClock().pause(SECOND)
        assert market.health().queries[0].client == {}
