"""The sections of the options: the meaning of each option, its valid values and its default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from kandle.context.clients import checked_properties
from kandle.log.letters import LetterRate
from kandle.model.entity import USUAL_BAR_TOPICS, BarTopics
from kandle.model.markers import Access, FormatName, PartitionerName, Precision
from kandle.model.settings import FOREVER, Cleanup, TopicSettings
from kandle.model.types import MAX_PRECISION
from kandle.plan.query_topics import HeartbeatSettings
from kandle.runtime.planner import check_backfill
from kandle.serde.compatibility import Compatibility
from kandle.serde.port import InstantUnit
from kandle.time.timeframe import DAY, HOUR, MILLISECOND, MINUTE, SECOND, parse_duration, parse_instant


def _microseconds(value: Any) -> int:
    return value if isinstance(value, int) else parse_duration(value)


Duration = Annotated[int, BeforeValidator(_microseconds)]
"""A duration in microseconds, written as text such as `100ms`."""


def _checked_duration(text: str) -> str:
    parse_duration(text)
    return text


DurationText = Annotated[str, AfterValidator(_checked_duration)]
"""A duration as text, such as `7d`."""


def _expiry(value: Any) -> int | str:
    if value in ("auto", "never"):
        return str(value)
    try:
        return value if isinstance(value, int) else parse_duration(value)
    except ValueError as error:
        raise ValueError(f"valid are 'auto', 'never' and durations such as '7d' ({error})") from None


def _checked_retention(text: str) -> str:
    if text != "forever":
        parse_duration(text)
    return text


def _grace(value: Any) -> int | dict[str, int]:
    if isinstance(value, Mapping):
        return {str(name): _microseconds(part) for name, part in value.items()}
    return _microseconds(value)


Expiry = Annotated[int | str, PlainValidator(_expiry)]
"""`auto`, `never`, or microseconds, written as a text such as `7d`."""


def checked_begin(text: str) -> str:
    """Return where a replaced declaration begins; ValueError if it is neither `latest` nor an instant."""
    if text != "latest":
        try:
            parse_instant(text)
        except ValueError as error:
            raise ValueError(f"valid are 'latest' and instants such as '2024-03-08T14:30Z' ({error})") from None
    return text


class Section(BaseModel):
    """A section of the options; unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


RetentionText = Annotated[str, AfterValidator(_checked_retention)]
"""How long records are kept, as a text such as `7d`, or `forever`."""

Grace = Annotated[int | dict[str, int], PlainValidator(_grace)]
"""A duration in microseconds, or one for each of some timeframes, written as texts such as `2s`."""

Properties = dict[str, str | int | float | bool]
"""Settings of brokers or clients by their names."""

OWN_CONFIGS = {"retention.ms": "retention", "retention.bytes": "retention_bytes", "cleanup.policy": "cleanup"}
"""Settings of brokers that are options too, which the embedded log follows as well."""


class TopicOptions(Section):
    """Settings of one topic: of an entity, or of what a query writes.

    Attributes:
        partitions: The number of partitions.
        replication: The number of copies on a cluster.
        retention: How long records are kept, such as `7d`, or `forever`.
        retention_bytes: How many bytes of each partition are kept.
        cleanup: What happens to old records: `delete` by their age and size, `compact` all but the newest of each key, or both.
        configs: Further settings of the brokers by name, such as `{"compression.type" = "zstd"}`.
        create: Whether kandle creates the topic if it is missing; otherwise that is an error. By default what `log.create` says.
        consumer: Properties of clients that read the topic.
        producer: Properties of clients that write the topic outside of transactions.
        grace: How late events may be, for the final bars of this topic; of the entity of bars for all its timeframes, or for
            some of them: `{"1m" = "2s"}`.
        key_format: The format of keys, of the topic of an entity.
        value_format: The format of values, of the topic of an entity.
        partitioner: How others choose partitions, of the topic of an entity.
    """

    partitions: int | None = Field(default=None, ge=1)
    replication: int | None = Field(default=None, ge=1)
    retention: RetentionText | None = None
    retention_bytes: int | None = Field(default=None, ge=0)
    cleanup: Cleanup | None = None
    configs: Properties = Field(default_factory=dict)
    create: bool | None = None
    consumer: Annotated[Properties, AfterValidator(checked_properties)] = Field(default_factory=dict, repr=False)
    producer: Annotated[Properties, AfterValidator(checked_properties)] = Field(default_factory=dict, repr=False)
    grace: Grace | None = None
    key_format: FormatName | None = None
    value_format: FormatName | None = None
    partitioner: PartitionerName | None = None

    @model_validator(mode="after")
    def _said_once(self) -> TopicOptions:
        for config, option in OWN_CONFIGS.items():
            if config in self.configs and getattr(self, option) is not None:
                raise ValueError(f'{option} and configs."{config}" say the same thing: give one of them')
        if self.cleanup == "compact" and self.retention not in (None, "forever"):
            raise ValueError('with cleanup = "compact" no record is removed because of its age; write "compact,delete"')
        return self

    @property
    def _age(self) -> int | None:
        if self.retention is None:
            return None
        return FOREVER if self.retention == "forever" else parse_duration(self.retention)

    def settings(self, origin: str) -> TopicSettings:
        """Return the settings of the topic.

        Args:
            origin: Where they were given, to start a message with.

        Raises:
            ValueError: A setting of the brokers has no valid value.
        """
        configs = {name: _property(value) for name, value in self.configs.items()}
        age, size = configs.pop("retention.ms", None), configs.pop("retention.bytes", None)
        return TopicSettings(
            self.partitions,
            self.replication,
            self._age if age is None else _number_or_forever("retention.ms", age, MILLISECOND),
            self.retention_bytes if size is None else _number_or_forever("retention.bytes", size, 1),
            _cleanup(configs.pop("cleanup.policy", self.cleanup)),
            tuple(sorted(configs.items())),
            self.create,
            origin,
        )


def _property(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number_or_forever(name: str, text: str, unit: int) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise ValueError(f'configs."{name}" = {text!r}: give a whole number, or -1 for no limit') from error
    return FOREVER if number < 0 else number * unit


def _cleanup(policy: str | None) -> Cleanup | None:
    if policy is None:
        return None
    names = ",".join(sorted(part.strip() for part in policy.split(",")))
    choices: tuple[Cleanup, ...] = get_args(Cleanup)
    if names not in choices:
        raise ValueError(f"cleanup.policy = {policy!r}; choose one of {', '.join(map(repr, choices))}")
    return choices[choices.index(names)]


def client_properties(properties: Properties) -> dict[str, str]:
    """Return properties of clients as texts."""
    return {name: _property(value) for name, value in properties.items()}


class EntitySection(Section):
    """Settings of one entity, by the name of its class.

    Attributes:
        access: What its set may do, as far as the context may: `read_write`, `read_only` or `write_only`.
    """

    access: Access | None = None


class FieldOptions(Section):
    """What fields are that do not say it themselves.

    Attributes:
        decimal_precision: The number of digits of a `Decimal` without `Precision`; without it such a field is an error.
        decimal_scale: How many of them stand behind the point.
        instants: The unit in which a `datetime` without `DatetimeFormat` is written to new topics on Kafka, `micros` or
            `millis`. By default microseconds, and milliseconds where ksqlDB aggregates, which knows nothing finer.
        finer: What happens to a `datetime` that is finer than its topic on Kafka: it is an error (`refuse`), or cut (`cut`).
    """

    decimal_precision: int | None = Field(default=None, ge=1, le=MAX_PRECISION)
    decimal_scale: int | None = Field(default=None, ge=0, le=MAX_PRECISION)
    instants: InstantUnit | None = None
    finer: Literal["refuse", "cut"] = "refuse"

    @model_validator(mode="after")
    def _both_digits(self) -> FieldOptions:
        if (self.decimal_precision is None) != (self.decimal_scale is None):
            raise ValueError("decimal_precision and decimal_scale belong together: give both, or neither")
        return self

    @property
    def decimals(self) -> Precision | None:
        """The digits of a Decimal that names none."""
        if self.decimal_precision is None or self.decimal_scale is None:
            return None
        return Precision(self.decimal_precision, self.decimal_scale)


def _checked_bar_topic(template: str) -> str:
    rest = re.sub(r"\{(bars|timeframe)\}", "", template)
    if re.fullmatch(r"[A-Za-z0-9._-]*", rest) is None:
        raise ValueError("valid are letters, digits, '.', '_', '-' and the fields {bars}, {timeframe}")
    if template.count("{bars}") != 1 or template.count("{timeframe}") != 1:
        raise ValueError("it needs the fields {bars} and {timeframe} once each, since each timeframe has a topic of its own")
    between = template.replace("{timeframe}", "{bars}").split("{bars}")[1]
    if re.search(r"[._-]", between) is None:
        raise ValueError("put '_', '-' or '.' between {bars} and {timeframe}, so that no two names are the same")
    return template


BarTopicName = Annotated[str, AfterValidator(_checked_bar_topic)]


class BarOptions(Section):
    """The topics of bars.

    Attributes:
        live_topic: How the topics of live bars are called; `{bars}` stands for the topic of the bars, `{timeframe}` for `5m`.
        final_topic: The same of final bars.
    """

    live_topic: BarTopicName = Field(default=USUAL_BAR_TOPICS.live, max_length=200)
    final_topic: BarTopicName = Field(default=USUAL_BAR_TOPICS.final, max_length=200)

    @model_validator(mode="after")
    def _different(self) -> BarOptions:
        if self.live_topic == self.final_topic:
            raise ValueError("live_topic and final_topic are the same: live and final bars need topics of their own")
        return self

    @property
    def names(self) -> BarTopics:
        """How the topics are called."""
        return BarTopics(self.live_topic, self.final_topic)


class LogOptions(Section):
    """Where records are stored.

    Attributes:
        kind: `embedded` for a folder on this machine, `kafka` for the cluster of the section `kafka`.
        path: The folder.
        durability: With `full` a commit waits until the disk has stored it, so that not even a power failure loses an
            acknowledged record; `normal` survives the end of any process.
        differences: Whether a topic whose settings differ from its declaration is a warning (`warn`) or an error (`refuse`).
        create: Whether missing topics are created; otherwise they are an error, unless the topic's own section says `create`.
    """

    kind: Literal["embedded", "kafka"] = "embedded"
    path: Path = Path("kandle-data")
    durability: Literal["normal", "full"] = "normal"
    differences: Literal["warn", "refuse"] = "warn"
    create: bool = True


class KafkaOptions(Section):
    """The Kafka cluster; docs/kafka.md.

    Attributes:
        bootstrap: Brokers as `host:port`, with commas between them.
        properties: Properties of all clients (`security.protocol`, `sasl.password`, ...).
        consumer: Properties of consumers.
        producer: Properties of producers.
        protocol: The protocol of consumer groups; `consumer` is that of KIP-848.
        session: How long a silent member of a group counts as alive; by default the lease of the runtime, at least 6s.
        transaction: How long a transaction stays open that a dead process left.
        patience: How long a call waits for the brokers.
        statistics: How often figures of the client library become metrics; `0s` is never.
        replication: The number of copies of topics whose entity names none; by default that of the brokers.
    """

    bootstrap: str = "127.0.0.1:9092"
    properties: Annotated[dict[str, str], AfterValidator(checked_properties)] = Field(default_factory=dict, repr=False)
    consumer: Annotated[dict[str, str], AfterValidator(checked_properties)] = Field(default_factory=dict, repr=False)
    producer: Annotated[dict[str, str], AfterValidator(checked_properties)] = Field(default_factory=dict, repr=False)
    protocol: Literal["classic", "consumer"] = "classic"
    session: Duration | None = None
    transaction: Duration = Field(default=10 * SECOND, ge=SECOND)
    patience: Duration = Field(default=30 * SECOND, ge=SECOND)
    statistics: Duration = Field(default=10 * SECOND, ge=0)
    replication: int | None = Field(default=None, ge=1)


class SchemaRegistryOptions(Section):
    """Where Avro schemas are stored.

    Attributes:
        url: The Confluent Schema Registry; None stores them in a topic of the cluster.
        properties: Properties of its client (`basic.auth.user.info`, ...).
        compatibility: The compatibility that new schemas must have.
    """

    url: str | None = Field(default=None, repr=False)
    properties: dict[str, str] = Field(default_factory=dict, repr=False)
    compatibility: Compatibility = Compatibility.BACKWARD


class RuntimeOptions(Section):
    """How queries run in this process.

    Attributes:
        enabled: Whether they run; by default where records are both read and written.
        instance: The name of the process in its groups; by default host and process number.
        commit_interval: How often outputs, live bars among them, are committed.
        round_interval: The shortest time between two rounds of reading.
        batch_rows: The number of rows that a round reads at most.
        lease: How long a silent process counts as alive.
        live_retention: How long live bars are kept, at least for two of their buckets.
        replace: Queries, by the topic or the class of their bars, whose changed declaration replaces the one that counts.
        replace_from: The instant from which on such a query reads events: an ISO 8601 text, or `latest`; by default it begins
            where the former declaration stood.
    """

    enabled: bool | None = None
    instance: str | None = None
    commit_interval: Duration = Field(default=100_000, ge=1_000)
    round_interval: Duration = Field(default=5_000, ge=0)
    batch_rows: int = Field(default=200_000, ge=1)
    lease: Duration = Field(default=5_000_000, ge=100_000)
    live_retention: Duration = HOUR
    replace: tuple[str, ...] = ()
    replace_from: Annotated[str, AfterValidator(checked_begin)] | None = None


def _checked_heartbeat_topic(template: str) -> str:
    fields = ("{bars}", "{prefix}", "{base}")
    rest = template
    for name in fields:
        rest = rest.replace(name, "")
    if re.fullmatch(r"[A-Za-z0-9._-]*", rest) is None:
        raise ValueError(f"valid are letters, digits, '.', '_', '-' and the fields {', '.join(fields)}")
    if fields[0] not in template:
        raise ValueError("it needs the field {bars}, since each query has a topic of its own for its heartbeats")
    return template


class HeartbeatOptions(Section):
    """The heartbeats that close buckets.

    Attributes:
        topic: The name of a query's topic of heartbeats; `{bars}` stands for the topic of the bars, `{base}` for the base
            timeframe and `{prefix}` for the next option.
        prefix: What stands before the base timeframe in the usual name.
        retention: How long they are kept.
        replication: The number of copies on a cluster; by default that of the bars.
        backfill: How far back heartbeats are sent after a start, at most 2m.
        jitter: How much later than due they are sent at most.
    """

    topic: Annotated[str, AfterValidator(_checked_heartbeat_topic)] = Field(default="{bars}_{prefix}_{base}", max_length=200)
    prefix: str = Field(default="hb", pattern=r"^[A-Za-z0-9._-]+$", max_length=200)
    retention: Duration = 7 * DAY
    replication: int | None = Field(default=None, ge=1)
    backfill: Annotated[Duration, AfterValidator(check_backfill)] = MINUTE
    jitter: Duration = Field(default=5_000, ge=0)

    @property
    def settings(self) -> HeartbeatSettings:
        """Names and settings of the topics."""
        return HeartbeatSettings(self.topic.replace("{prefix}", self.prefix), self.retention, self.replication)


class ScheduleOptions(Section):
    """How schedules are read.

    Attributes:
        refresh_at: The time of the day, in UTC, at which a whole schedule is read again.
        retry: How often an empty schedule is read again and logged.
    """

    refresh_at: time = time(0, 5)
    retry: Duration = 10 * SECOND


class UniverseOptions(Section):
    """The keys for which bars are expected.

    Attributes:
        keys: Group keys that exist from the start, a list of parts as text for each.
        expire_after: How long a key may be silent before it gets no more gap bars; `auto` is `never` with a schedule, and 7d
            without one.
    """

    keys: tuple[tuple[str, ...], ...] = ()
    expire_after: Expiry = "auto"


class StateOptions(Section):
    """Where the state of queries is stored.

    Attributes:
        store: `memory`, or `rocksdb` for a copy on disk with which a start reads less.
        path: The folder of the copy; by default beside the log.
        standby: Whether each process also keeps the state of the partitions of others, so that it takes them over sooner. That
            costs the memory of the whole query's state in each process, and one more reader of each changelog.
    """

    store: Literal["memory", "rocksdb"] = "memory"
    path: Path | None = None
    standby: bool = False


class CopiesOptions(Section):
    """Where this machine keeps copies of topics that are read again and again: tables, and large numbers of bars.

    Attributes:
        store: `auto` for RocksDB where it is installed and the folder can be written, else memory; `rocksdb`, or `memory`.
        path: The folder; by default beside the log.
    """

    store: Literal["auto", "rocksdb", "memory"] = "auto"
    path: Path | None = None


class ConsumerOptions(Section):
    """How sets are consumed by `for_each`, `for` and `async for`.

    Attributes:
        group: The beginning of the names of their consumer groups; by default the name of the context.
        reset: Where a new group starts.
        batch_rows: The number of records that a poll reads at most.
        prefetch_rows: About the number of records that are read ahead of the handler.
        prefetch_bytes: About the number of their bytes in memory; what was written at once is read at once.
    """

    group: str | None = None
    reset: Literal["earliest", "latest"] = "earliest"
    batch_rows: int = Field(default=1_000, ge=1)
    prefetch_rows: int = Field(default=2_000, ge=1)
    prefetch_bytes: int = Field(default=16 << 20, ge=1)


def _letter_rate(value: Any) -> Any:
    return value if value is None or isinstance(value, LetterRate) else LetterRate.parse(str(value))


class DeadLetterOptions(Section):
    """Dead letters; docs/dead-letters.md.

    Attributes:
        rate: How many letters a consumer may write within a time, such as `1000/1m`; further ones are summed up. None writes all.
        query_rate: The same for records and events of a query in a partition. Bars that do not fit always have letters.
    """

    rate: Annotated[LetterRate | None, PlainValidator(_letter_rate)] = None
    query_rate: Annotated[LetterRate | None, PlainValidator(_letter_rate)] = None


class ClockOptions(Section):
    """A clock for replays, the same in all processes.

    Attributes:
        start: The time that the clock showed at the real time `since`; None for the system's clock.
        since: The real time at which the clock showed `start`.
        speed: How many times as fast as real time the clock runs.
    """

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
    """What aggregates events to base bars.

    Attributes:
        kind: `embedded` for kandle itself, `ksqldb` for the server of the section `ksqldb`.
    """

    kind: Literal["embedded", "ksqldb"] = "embedded"


class KsqlDbOptions(Section):
    """The ksqlDB server; docs/ksqldb.md.

    Attributes:
        url: The address of the server.
        user: The name of the user.
        password: The password of the user.
        ca: A file with certificates of authorities.
        certificate: The file of the client's certificate.
        key: The file of the client's key.
        key_password: The password of the client's key.
        verify: Whether the server's certificate is checked.
        http: The version of HTTP.
        timeout: How long a request may take.
        patience: How long a server that cannot be reached is tried again.
        properties: Properties of every statement (`processing.guarantee`, ...).
        retention: How long windows are kept: the longest silence after which late events must still be counted.
        watch: How often queries are checked.
        on_failure: Whether a failed query is created again (`recreate`) or ends the worker (`stop`).
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
