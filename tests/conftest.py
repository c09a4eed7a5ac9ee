"""What tests of all folders share."""

from tests.brokers.running import bootstrap

__all__ = ["bootstrap"]
