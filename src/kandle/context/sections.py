"""The sections of a configuration: what each option means, what it may be, what it is where nobody says."""

from __future__ import annotations

from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from kandle.model.markers import FormatName, PartitionerName
from kandle.plan.plan import HEARTBEATS
from kandle.runtime.planner import check_backfill
from kandle.serde.compatibility import Compatibility
from kandle.time.timeframe import DAY, HOUR, MINUTE, SECOND, parse_duration

Duration = Annotated[int, BeforeValidator(lambda value: value if isinstance(value, int) else parse_duration(value))]
"""Microseconds, written as a text such as `100ms`."""


def _checked_duration(text: str) -> str:
    parse_duration(text)
    return text


DurationText = Annotated[str, AfterValidator(_checked_duration)]
"""A duration that stays a text."""


def _expiry(value: Any) -> int | str:
    if value in ("auto", "never"):
        return str(value)
    try:
        return value if isinstance(value, int) else parse_duration(value)
    except ValueError as error:
        raise ValueError(f"valid are 'auto', 'never' and durations such as '7d' ({error})") from None


Expiry = Annotated[int | str, PlainValidator(_expiry)]
"""`auto`, `never`, or microseconds, written as a text such as `7d`."""


class Section(BaseModel):
    """A part of the configuration; unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class TopicOptions(Section):
    """How one topic is created, in the place of what its entity says."""

    partitions: int | None = Field(default=None, ge=1)
    replication: int | None = Field(default=None, ge=1)
    retention: DurationText | None = None
    key_format: FormatName | None = None
    value_format: FormatName | None = None
    partitioner: PartitionerName | None = None


class LogOptions(Section):
    """Where records are: `embedded` is a folder (`path`) on this machine, `kafka` the cluster of the section `kafka`.

    Topics that differ from their declaration in how they are kept are warned of, or refused with `differences = "refuse"`.
    With `durability = "full"` a commit waits until the disk has it, so that not even a power loss takes an acknowledged
    record away; "normal" survives the end of any process.
    """

    kind: Literal["embedded", "kafka"] = "embedded"
    path: Path = Path("kandle-data")
    durability: Literal["normal", "full"] = "normal"
    differences: Literal["warn", "refuse"] = "warn"


class KafkaOptions(Section):
    """The cluster: `bootstrap` are brokers as `host:port`, with commas between them.

    `properties` go to all clients as they are (`security.protocol`, `sasl.password`, ...), those of `consumer` and `producer` to
    theirs; docs/kafka.md. `protocol` is that of groups: "consumer" is the one of KIP-848. A process that is not heard of for a
    `session` is taken for dead (default: the lease of the runtime, at least 6s). A transaction that a dead process left open ends
    after `transaction`. `replication` is the least of any topic that is made. Every `statistics` the client library's figures
    become metrics, "0s" is never.
    """

    bootstrap: str = "127.0.0.1:9092"
    properties: dict[str, str] = Field(default_factory=dict, repr=False)
    consumer: dict[str, str] = Field(default_factory=dict, repr=False)
    producer: dict[str, str] = Field(default_factory=dict, repr=False)
    protocol: Literal["classic", "consumer"] = "classic"
    session: Duration | None = None
    transaction: Duration = Field(default=10 * SECOND, ge=SECOND)
    patience: Duration = Field(default=30 * SECOND, ge=SECOND)
    statistics: Duration = Field(default=10 * SECOND, ge=0)
    replication: int = Field(default=1, ge=1)


class SchemaRegistryOptions(Section):
    """Where Avro schemas are: a Confluent Schema Registry at `url`, else a topic of the cluster.

    `properties` go to its client as they are (`basic.auth.user.info`, ...). `compatibility` is asked of new schemas.
    """

    url: str | None = Field(default=None, repr=False)
    properties: dict[str, str] = Field(default_factory=dict, repr=False)
    compatibility: Compatibility = Compatibility.BACKWARD


class RuntimeOptions(Section):
    """What runs in this process: by default queries run where records are both read and written.

    `instance` names the process in its groups (default: host and process number). Live bars leave every `commit_interval`.
    A process that is not heard of for a `lease` is taken for dead. `live_retention` is how long live bars are kept, at least for
    two of their buckets.
    """

    enabled: bool | None = None
    instance: str | None = None
    commit_interval: Duration = Field(default=100_000, ge=1_000)
    round_interval: Duration = Field(default=5_000, ge=0)
    batch_rows: int = Field(default=200_000, ge=1)
    lease: Duration = Field(default=5_000_000, ge=100_000)
    live_retention: Duration = HOUR


class HeartbeatOptions(Section):
    """`backfill`: how far back heartbeats are made up after a start, at most 2m; `jitter`: how much later than due they leave.

    `prefix` begins the names of their topics, which contexts with as many partitions may share.
    """

    prefix: str = Field(default=HEARTBEATS, pattern=r"^[A-Za-z0-9._-]+$", max_length=200)

    backfill: Annotated[Duration, AfterValidator(check_backfill)] = MINUTE
    jitter: Duration = Field(default=5_000, ge=0)
    retention: Duration = 7 * DAY


class ScheduleOptions(Section):
    """`refresh_at`: time of the day, in UTC, at which the whole schedule is read again; `retry`: how often absence is told."""

    refresh_at: time = time(0, 5)
    retry: Duration = 10 * SECOND


class UniverseOptions(Section):
    """`keys`: group keys that should be there, parts as text; `expire_after`: silence after which a key gets no more gap bars.

    "auto" is never with a schedule, and seven days without one.
    """

    keys: tuple[tuple[str, ...], ...] = ()
    expire_after: Expiry = "auto"


class StateOptions(Section):
    """`rocksdb` keeps a copy of the state in a folder beside the log (or in `path`), so that less is read at a start.

    With `standby` each process also keeps ready the state of the partitions that others own, so that it takes them over sooner;
    that costs the memory of the whole query's state in each process, and a reader more of each changelog.
    """

    store: Literal["memory", "rocksdb"] = "memory"
    path: Path | None = None
    standby: bool = False


class ConsumerOptions(Section):
    """How `for_each` and `async for` read: `group` begins the names of their groups (default: the context's name)."""

    group: str | None = None
    reset: Literal["earliest", "latest"] = "earliest"
    batch_rows: int = Field(default=1_000, ge=1)


class ClockOptions(Section):
    """A clock for replays: at the real time `since` it said `start`, and it runs `speed` times as fast, in all processes."""

    start: datetime | None = None
    since: datetime | None = None
    speed: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _both(self) -> ClockOptions:
        if (self.start is None) != (self.since is None):
            raise ValueError("start and since belong together: give both, or neither")
        for moment in (self.start, self.since):
            if moment is not None and moment.tzinfo is None:
                raise ValueError("start and since need a time zone, for example 2024-03-08T14:30:00Z")
        if self.start is None and self.speed != 1:
            raise ValueError("a speed needs start and since")
        return self


class EngineOptions(Section):
    """Who aggregates events to base bars: kandle itself ("embedded"), or the ksqlDB of the section `ksqldb`."""

    kind: Literal["embedded", "ksqldb"] = "embedded"


class KsqlDbOptions(Section):
    """The ksqlDB server; docs/ksqldb.md.

    `properties` go with every statement (`processing.guarantee`, ...). Windows are kept for `retention`, the longest silence or
    absence after which late events must still be counted. Queries are looked at every `watch`; one that has failed is made
    anew ("recreate"), or ends the worker ("stop").
    """

    url: str = "http://127.0.0.1:8088"
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = Field(default=None, repr=False)
    verify: bool = True
    http: Literal["1.1", "2"] = "2"
    timeout: DurationText = "30s"
    patience: DurationText = "60s"
    properties: dict[str, str | int | bool] = Field(default_factory=dict, repr=False)
    retention: Duration = Field(default=7 * DAY, ge=DAY)
    watch: Duration = Field(default=5 * SECOND, ge=100_000)
    on_failure: Literal["recreate", "stop"] = "recreate"
