"""Contexts for tests: on a log in memory, with a clock that is moved by hand."""

from kandle.testing.context import TestClock, TestContext, context

__all__ = ["TestClock", "TestContext", "context"]
