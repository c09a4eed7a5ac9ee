"""What a class that tests an adapter gives to the tests of the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from kandle.log.port import Consumer, GroupSpec, Listener, Log
from kandle.time.timeframe import MINUTE

Join = Callable[..., Consumer]


class ContractBase:
    """Subclasses give the `log` fixture, `reopen` and `pass_time`."""

    lease: int = 10 * MINUTE
    """Of members whose death no test waits for: nothing is handed over because time has passed."""

    worth: int = 1_000
    """New records for which the log compacts a partition."""

    @pytest.fixture
    def log(self) -> Iterator[Log]:
        """An open log."""
        raise NotImplementedError

    @pytest.fixture
    def name(self) -> str:
        """A name for the test's topics and groups that no other test has."""
        return f"t{uuid4().hex[:10]}"

    @pytest.fixture
    def join(self, log: Log, name: str) -> Iterator[Join]:
        """Joins a member to the test's group, or to another."""
        joined: list[Consumer] = []

        def member(member: str, *topics: str, listener: Listener | None = None, on: Log = log, **settings: Any) -> Consumer:
            spec = self.group_spec(settings.pop("group", name), member, *(topics or (name,)), **settings)
            joined.append(on.consumer(spec, listener))
            return joined[-1]

        yield member
        for consumer in joined:
            consumer.close()

    def group_spec(self, group: str, member: str, *topics: str, **settings: Any) -> GroupSpec:
        """Return the spec of a member whose death is not waited for."""
        return GroupSpec(**{"group": group, "topics": topics, "member": member, "lease": self.lease, **settings})

    def reopen(self, log: Log) -> Log:
        """Close the log and open it anew, as after a restart of the process."""
        raise NotImplementedError

    def pass_time(self, duration: int) -> None:
        """Let time pass for the log, in microseconds."""
        raise NotImplementedError
