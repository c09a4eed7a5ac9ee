"""What tests of all folders share: the Kafka of a run, and the settings of property tests."""

import faulthandler

import pytest
from hypothesis import HealthCheck, settings

from tests.brokers.running import bootstrap

__all__ = ["bootstrap"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let soak tests run for as long as they need; they would be reported as hanging, with stack traces, while all is well."""
    if item.get_closest_marker("soak") is not None:
        faulthandler.cancel_dump_traceback_later()


# The same examples on every run, however busy the machine is. `pytest --hypothesis-profile=explore` looks for new ones.
settings.register_profile("kandle", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("kandle"), derandomize=False, print_blob=True)
settings.load_profile("kandle")
