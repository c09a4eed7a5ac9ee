"""A simulated process: the runtime of production on a connection of its own, stepped instead of run in threads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from kandle.errors import UnavailableError
from kandle.log.port import Consumer, GroupSpec, Listener, Log, TopicPartition
from kandle.runtime.counters import QueryState
from kandle.runtime.generations import check_declarations
from kandle.runtime.preparing import prepare_topics
from kandle.runtime.query_runtime import QueryRuntime, RuntimeSpec
from kandle.runtime.runtime import Runtime
from kandle.time.timeframe import DAY, SECOND
from tests.simulation.histories import Member
from tests.simulation.logs.log import SimulatedLog
from tests.simulation.machine import ProcessClock

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

LEASE = 5 * SECOND
WRITING = frozenset({"append", "append_each", "commit"})


class Killed(BaseException):
    """The end of a process in the middle of whatever it does; nothing that it calls afterwards reaches the log."""


class ProcessLog:
    """The log as one process uses it: with each call the scheduler may have something happen before or after it.

    Args:
        inner: The log, or a consumer of it.
        process: The process.
        life: Which life of the process this belongs to.
    """

    def __init__(self, inner: Any, process: Process, life: int) -> None:
        self._inner, self._process, self._life = inner, process, life

    @property
    def has_own_clock(self) -> bool:
        if isinstance(self._inner, SimulatedLog):
            return self._inner.has_own_clock
        return self._process.clock.skew != 0

    def connect(self) -> ProcessLog:
        return self

    def close(self) -> None:
        """Leave a group; a connection has nothing to be closed."""
        if hasattr(self._inner, "poll"):
            self._called("close", self._inner.close)

    def consumer(self, spec: GroupSpec, listener: Listener | None = None) -> Consumer:
        noting = None if listener is None else Told(listener, self._process)
        inner = self._called("consumer", self._inner.consumer, spec, noting)
        self._process.consumer = inner
        return cast(Consumer, ProcessLog(inner, self._process, self._life))

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute) or name == "wake":
            return attribute
        return lambda *given, **named: self._called(name, attribute, *given, **named)

    def _called(self, name: str, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self._process.check_life(self._life)
        faults = self._process.struck(name)
        self._process.simulation.interrupted(self._process, name, faults, "before")
        self._process.check_life(self._life)
        result = function(*given, **named)
        self._process.simulation.interrupted(self._process, name, faults, "after")
        self._process.check_life(self._life)
        return result


class Told:
    """A listener that writes down which partitions come and go, and passes it on.

    Args:
        listener: The listener.
        process: Its process.
    """

    def __init__(self, listener: Listener, process: Process) -> None:
        self._listener, self._process = listener, process

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._note("gets", partitions)
        self._listener.assigned(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self._note("gives up", partitions)
        self._listener.revoked(partitions)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self._note("has lost", partitions)
        self._process.check_lost()
        self._listener.lost(partitions)

    def _note(self, verb: str, partitions: Collection[TopicPartition]) -> None:
        numbers = sorted({partition.partition for partition in partitions})
        self._process.simulation.note(self._process, f"{verb} partitions {', '.join(map(str, numbers))}")
        self._process.simulation.counts[f"partitions: {verb}"] += 1


class Process:
    """A process that is started, paused, killed and started again.

    Args:
        simulation: What it is a part of.
        member: What it is.
        number: Its number.
    """

    def __init__(self, simulation: Simulation, member: Member, number: int) -> None:
        self.simulation, self.member, self.number = simulation, member, number
        self.clock = ProcessClock(simulation.clock, member.skew)
        self.life = 0
        self.consumer: Any = None
        self.runtime: Runtime | None = None
        self.log: Any = None
        """Its log, without what may happen to calls of it."""
        self.starts_at: int | None = member.begins
        """When it is started, by the steady clock; None while it runs."""
        self.paused_until = 0
        self.waits: dict[str, int] = {}
        """Until when a part waits, by the steady clock."""
        self.armed: list[Armed] = []
        """Faults that strike with one of the next calls of the log."""
        self.kept_at: list[int] = []
        """When its lease was kept, by the steady clock: the last two times."""
        self.is_doubtful = False
        """Whether its worker has done no whole step since it was paused, so that its lease may be over."""
        self.busy: list[str] = []
        """The parts that are in the middle of a step."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or is being started."""
        return self.starts_at is None

    @property
    def query(self) -> QueryRuntime | None:
        """The query that it runs."""
        return None if self.runtime is None else self.runtime.queries[0]

    def check_life(self, life: int) -> None:
        """Raise Killed if the process that makes a call was killed."""
        if life != self.life:
            raise Killed

    def struck(self, call: str) -> list[Armed]:
        """Return the faults that strike with a call of the log."""
        struck = []
        for armed in list(self.armed):
            if armed.only_writes and call not in WRITING:
                continue
            armed.calls -= 1
            if armed.calls <= 0:
                self.armed.remove(armed)
                struck.append(armed)
        return struck

    def kill(self, starts_at: int | None) -> None:
        """End at once, and be started again."""
        self.life += 1
        if isinstance(self.log, SimulatedLog):
            self.log.process.kill()
        self.log = None
        self.runtime, self.consumer, self.armed, self.paused_until = None, None, [], 0
        self.waits.clear()
        self.kept_at.clear()
        self.is_doubtful = False
        self.starts_at = starts_at

    def stand_still(self) -> None:
        """Have no thread of it keep a lease or a session."""
        if isinstance(self.log, SimulatedLog):
            self.log.process.stop()

    def go_on(self) -> None:
        """Have its threads go on."""
        if isinstance(self.log, SimulatedLog) and self.log.process.stopped_at is not None and not self.log.process.is_killed:
            self.log.process.resume()

    def parts(self) -> dict[str, Callable[[], object]]:
        """Return what can be stepped now, by name."""
        now = self.simulation.clock.steady()
        if self.starts_at is not None:
            return {"start": self.start} if now >= self.starts_at and not self.busy else {}
        if now < self.paused_until:
            return {}
        self.go_on()
        if self.runtime is None:
            return {}
        steps = dict(self.runtime.queries[0].steps) | {"watch": self._watch, "lease": self._keep_lease}
        return {name: step for name, step in steps.items() if name not in self.busy and now >= self.waits.get(name, 0)}

    def start(self) -> None:
        """Do what a context does when it is opened."""
        simulation, life = self.simulation, self.life
        self.log = simulation.connect(self)
        log = cast(Log, ProcessLog(self.log, self, life))
        plan = simulation.declaration.plan
        spec = RuntimeSpec(
            self.member.name, self.member.service, lease=LEASE, standby=self.member.standby, expire_after=7 * DAY, jitter=0
        )
        check_declarations(log, [(plan, spec.declaration(plan))], spec.member, ())
        topics = prepare_topics(log, [plan], spec.topics)
        runtime = Runtime(log, cast(Any, self.clock), topics, spec)
        self.runtime, self.starts_at = runtime, None
        self._connection = log

    def _watch(self) -> None:
        assert self.runtime is not None
        self.waits["watch"] = self.simulation.clock.steady() + 5 * SECOND
        self.runtime.watch(self._connection)

    def _keep_lease(self) -> None:
        """Do what the thread of a lease does."""
        self.waits["lease"] = self.simulation.clock.steady() + LEASE // 4
        if self.consumer is not None:
            if not isinstance(self.log, SimulatedLog):
                # The threads of the logs in memory are worked out from the clock.
                self.consumer.keeper.renew()
            self.kept_at = [*self.kept_at[-3:], self.simulation.clock.steady()]

    def check_lost(self) -> None:
        """Note a broken law if the partitions of a process are taken although it has kept its lease."""
        if self.is_doubtful:
            return
        times = [*self.kept_at, self.simulation.clock.steady()]
        if len(times) == 5 and all(after - before < LEASE // 2 for before, after in pairwise(times)):
            self.simulation.problems.append(f"{self.member.name} has lost partitions, although it kept its lease")

    def step(self, name: str, step: Callable[[], object]) -> None:
        """Do one step of a part; what goes wrong in it is handled as its thread does."""
        life = self.life
        self.busy.append(name)
        try:
            was_doubtful = self.is_doubtful
            is_moved = step()
            if name == "worker" and was_doubtful:
                # A whole step has looked at what became of its partitions meanwhile.
                self.is_doubtful = False
            if name == "worker" and is_moved is False and life == self.life:
                assert self.query is not None
                self.simulation.note(self, f"worker waits: {self.query.worker.problem}")
                self.waits[name] = self.simulation.clock.steady() + SECOND
        except Killed:
            return
        except UnavailableError as error:
            self.simulation.note(self, f"{name} waits: {error}")
            self.waits[name] = self.simulation.clock.steady() + SECOND
            if name == "start":
                self.starts_at = self.waits[name]
        except Exception as error:
            if life == self.life:
                self._failed(name, error)
        finally:
            self.busy.remove(name)
        query = self.query
        if life == self.life and query is not None and query.worker.state is QueryState.FAILED:
            self._failed(name, query.worker.problem)

    def _failed(self, name: str, error: BaseException | None) -> None:
        """Note that the query has failed; the process ends, and somebody starts it again."""
        self.simulation.failed(self, name, error)
        self.kill(self.simulation.clock.steady() + 5 * SECOND)

    def stop(self) -> None:
        """Hand over and end, as on SIGTERM."""
        if self.runtime is not None:
            self.runtime.stop()


class Armed:
    """A fault that strikes with one of the next calls of a process.

    Args:
        kind: The kind of the fault.
        calls: With which of the calls.
        amount: How long it lasts, in microseconds.
        is_after: Whether it strikes when the call was done, rather than before it.
    """

    def __init__(self, kind: str, calls: int, amount: int, is_after: bool) -> None:
        self.kind, self.calls, self.amount, self.is_after = kind, calls, amount, is_after

    @property
    def only_writes(self) -> bool:
        """Whether it only concerns calls that write."""
        return self.kind == "lost"
