"""Logs in memory under the rules of the real ones, for histories of many processes in one thread.

    world.py      World: what a history uses
    kafka.py      a log of one process under the rules of a cluster     embedded.py   under those of the embedded log
    members.py    members of groups                                     leases.py     groups of leases
    producers.py  transactions of one process
    brokers.py    transactions, claims and groups of a cluster
                  log.py        the part of a log that is the same under both rules
                  state.py      processes, faults, the point where a scheduler steps in
                  topics.py     topics, and which records fit them
                  storage.py    what partitions hold

Imports point down. The design: a log is its rules, and nothing else. There is no server, no thread, no wait and no encoding; what
a thread would have done is worked out from the clock when somebody looks (leases, sessions, time-outs of transactions, markers),
and what would wait raises UnavailableError or returns nothing, so that the scheduler decides who runs next. Where an algorithm of
the real log has no input or output (shares of a group, comparison of topics, which partitions go together), it is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Literal

from kandle.log.port import Maintenance
from kandle.model.entity import EntityModel
from kandle.time.clock import Clock
from tests.simulation.logs.brokers import BrokerState
from tests.simulation.logs.embedded import EmbeddedRules, LeaseState
from tests.simulation.logs.kafka import KafkaRules
from tests.simulation.logs.log import SimulatedLog
from tests.simulation.logs.state import Call, Faults, Process
from tests.simulation.logs.topics import NO_ENTITIES, Topics, TopicViews

Rules = Literal["embedded", "kafka"]


class World:
    """A log that processes share.

    Args:
        rules: Those of the embedded log, or of a cluster.
        random: Decides what is left to chance.
        clock: The clock of the log: that of the machine, or of the brokers. Its steady time never goes back.
        least_rows: New records for which a partition of the embedded log is compacted; the real one has 1,000, histories fewer.
    """

    def __init__(self, rules: Rules, random: Random, clock: Clock, least_rows: int = 1_000) -> None:
        self.rules = rules
        self.state: LeaseState | BrokerState
        if rules == "embedded":
            self.state = LeaseState(random, clock, Topics(), least_rows)
        else:
            self.state = BrokerState(random, clock, Topics())

    @property
    def faults(self) -> Faults:
        """What is wrong at the moment."""
        return self.state.faults

    def on_call(self, hook: Callable[[Call], None] | None) -> None:
        """Have a hook called at each point of a call where something can happen to a process; `state` says what it may do."""
        self.state.on_call = hook

    def connect(
        self, process: str, clock: Clock | None = None, declared: Mapping[str, EntityModel] = NO_ENTITIES
    ) -> SimulatedLog:
        """Start a process, and return its log; `log.process` stops, resumes and kills it.

        Args:
            process: Its name; a process that was killed starts again under its name.
            clock: Its clock; that of the world if left out.
            declared: The entities of topics by name, as the process declares them.
        """
        own = Process(self.state, process, self.state.clock if clock is None else clock)
        views = TopicViews(self.state.topics, declared)
        if isinstance(self.state, LeaseState):
            return EmbeddedRules(self.state, own, views)
        return KafkaRules(self.state, own, views)

    def clean(self) -> Maintenance:
        """Apply retention and compaction to all topics, as brokers do by themselves; return what was removed."""
        return self.state.clean()

    def add_partitions(self, topic: str, count: int) -> None:
        """Have a topic have so many partitions, as somebody may do on a cluster."""
        assert isinstance(self.state, BrokerState), "the embedded log adds no partitions"
        self.state.add_partitions(topic, count)
