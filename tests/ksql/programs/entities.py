"""Entities of the catalogue: every type, one key, three keys, none, odd names, other formats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import kandle
from kandle import Key, Precision, Timestamp
from kandle.model.markers import Alias, DatetimeFormat, Header, MaxLength

Price = Annotated[Decimal, Precision(18, 6)]


@kandle.stream("ticks", partitions=2)
@dataclass(frozen=True)
class Tick:
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    time: Annotated[datetime, Timestamp()]
    bid: Price
    size: int
    note: str | None = None
    fee: Annotated[Decimal | None, Precision(10, 2)] = None


@kandle.stream("bars")
@dataclass(frozen=True)
class Bar:
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: int


@kandle.table("sessions")
@dataclass(frozen=True)
class Session:
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    trading_date: Annotated[date, Key(2)]
    open_at: datetime
    close_at: datetime


@kandle.stream("trades")
@dataclass(frozen=True)
class Trade:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Price
    size: int
    buyer: str | None = None
    ratio: float = 1.0
    active: bool = True
    settles: date = date(2024, 1, 1)
    seen: datetime | None = None
    fine: Annotated[Decimal, Precision(30, 12)] = Decimal(0)


@kandle.stream("sums")
@dataclass(frozen=True)
class Sums:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    events: int
    buyers: int
    volume: int
    turnover: Annotated[Decimal, Precision(38, 6)]
    weight: float


@kandle.stream("means")
@dataclass(frozen=True)
class Means:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    mean: Annotated[Decimal, Precision(18, 8)]
    mean_size: float
    weighted: Annotated[Decimal | None, Precision(18, 8)]


@kandle.stream("deviations")
@dataclass(frozen=True)
class Deviations:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    sample: float | None
    population: float
    of_ratio: float | None


@kandle.stream("ends")
@dataclass(frozen=True)
class Ends:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    first_buyer: str | None
    last_buyer: str | None
    first_active: bool
    last_seen: datetime | None
    least_day: date
    greatest_symbol: str


@kandle.stream("arrivals")
@dataclass(frozen=True)
class Arrivals:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    first: Price
    last: str | None


@kandle.stream("texts")
@dataclass(frozen=True)
class Texts:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    label: str
    kind: str
    size: str | None


@kandle.stream("spans")
@dataclass(frozen=True)
class Spans:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    end: datetime
    length: int
    span: Price
    same_symbol: str


@kandle.stream("readings")
@dataclass(frozen=True)
class Reading:
    """Without a key."""

    sensor: str
    at: Annotated[datetime, Timestamp()]
    value: float


@kandle.stream("peaks")
@dataclass(frozen=True)
class Peak:
    """Of all events together."""

    start: Annotated[datetime, Timestamp(), Key(0)]
    peak: float
    readings: int


@kandle.stream("sensor_peaks")
@dataclass(frozen=True)
class SensorPeak:
    sensor: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    peak: float


@kandle.stream("orders", partitions=3, replication=2, retention="30d")
@dataclass(frozen=True)
class Order:
    """Three keys, not in the order of the fields."""

    amount: Annotated[Decimal, Precision(12, 2)]
    desk: Annotated[int, Key(1)]
    placed: Annotated[datetime, Timestamp()]
    code: Annotated[str, Key(2)]
    venue: Annotated[UUID, Key(0)]


@kandle.stream("order_bars", partitions=6, replication=2, retention="365d")
@dataclass(frozen=True)
class OrderBar:
    bucket: Annotated[datetime, Timestamp(), Key(3)]
    where: Annotated[UUID, Key(0)]
    who: Annotated[int, Key(1)]
    what: Annotated[str, Key(2)]
    total: Annotated[Decimal, Precision(38, 2)]


@kandle.stream("reserved")
@dataclass(frozen=True)
class Reserved:
    """Names that are words of KSQL."""

    select: Annotated[str, Key(0)]
    timestamp: Annotated[datetime, Timestamp()]
    group: int
    size: int
    values: str | None = None


@kandle.stream("reserved_bars")
@dataclass(frozen=True)
class ReservedBar:
    select: Annotated[str, Key(0)]
    window: Annotated[datetime, Timestamp(), Key(1)]
    group: int
    limit: int
    having: int


@kandle.stream("Market.Ticks-v2")
@dataclass(frozen=True)
class MixedCase:
    """Names in mixed case, a topic with dots."""

    SYMBOL: Annotated[str, Key(0)]
    eventTime: Annotated[datetime, Timestamp()]  # noqa: N815
    lastPrice: Price  # noqa: N815


@kandle.stream("Market.Bars")
@dataclass(frozen=True)
class MixedCaseBar:
    SYMBOL: Annotated[str, Key(0)]
    Start: Annotated[datetime, Timestamp(), Key(1)]
    lastPrice: Price  # noqa: N815


@kandle.stream("everything", key_format="JSON", value_format="JSON")
@dataclass(frozen=True)
class Everything:
    """Every type, each with and without a value."""

    key: Annotated[UUID, Key(0)]
    number: Annotated[int, Key(1)]
    on: Annotated[date, Key(2)]
    time: Annotated[datetime, Timestamp()]
    flag: bool
    count: int
    ratio: float
    price: Annotated[Decimal, Precision(38, 18)]
    text: Annotated[str, MaxLength(20), Alias("txt")]
    identity: UUID
    raw: bytes
    day: date
    at: datetime
    tags: dict[str, str]
    maybe_flag: bool | None = None
    maybe_count: int | None = None
    maybe_ratio: float | None = None
    maybe_price: Annotated[Decimal | None, Precision(9, 0)] = None
    maybe_text: str | None = None
    maybe_raw: bytes | None = None
    maybe_day: date | None = None
    maybe_at: datetime | None = None
    maybe_tags: dict[str, str] | None = None


@kandle.stream("everything_bars", key_format="JSON", value_format="JSON")
@dataclass(frozen=True)
class EverythingBar:
    key: Annotated[UUID, Key(0)]
    number: Annotated[int, Key(1)]
    on: Annotated[date, Key(2)]
    start: Annotated[datetime, Timestamp(), Key(3)]
    flag: bool
    count: int
    ratio: float
    price: Annotated[Decimal, Precision(38, 18)]
    text: str
    identity: UUID
    raw: bytes
    day: date
    at: datetime
    maybe_price: Annotated[Decimal | None, Precision(9, 0)]
    maybe_text: str | None


@kandle.stream("lines", key_format="KAFKA", value_format="DELIMITED")
@dataclass(frozen=True)
class Line:
    """Text with a time of its own form."""

    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp(), DatetimeFormat("%d.%m.%Y %H:%M:%S")]
    price: Annotated[Decimal, Precision(9, 2)]


@kandle.stream("line_bars", key_format="KAFKA", value_format="JSON")
@dataclass(frozen=True)
class LineBar:
    code: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    price: Annotated[Decimal, Precision(9, 2)]


@kandle.stream("micros")
@dataclass(frozen=True)
class Micros:
    """Event time in microseconds, which ksqlDB cannot take for the time of records."""

    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp(), DatetimeFormat("epoch_us")]
    price: Annotated[Decimal, Precision(9, 2)]


@kandle.stream("seconds", value_format="JSON")
@dataclass(frozen=True)
class Seconds:
    """Event time in seconds."""

    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp(), DatetimeFormat("epoch_s")]
    price: Annotated[Decimal, Precision(9, 2)]


@kandle.table("instruments")
@dataclass(frozen=True)
class Instrument:
    code: Annotated[str, Key(0)]
    lot: int
    time: datetime
    name: str | None = None


@kandle.stream("quotes")
@dataclass(frozen=True)
class Quote:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Price
    venue: str


@kandle.table("holidays")
@dataclass(frozen=True)
class Holiday:
    on: Annotated[date, Key(0)]
    name: str


@kandle.table("factors")
@dataclass(frozen=True)
class Factor:
    code: Annotated[str, Key(0)]
    factor: float


@kandle.table("weighted")
@dataclass(frozen=True)
class Weighted:
    code: Annotated[str, Key(0)]
    weight: float | None


@kandle.table("funds")
@dataclass(frozen=True)
class Fund:
    fund: Annotated[str, Key(0)]
    market: str
    shares: int


@kandle.table("fund_weights")
@dataclass(frozen=True)
class FundWeight:
    fund: Annotated[str, Key(0)]
    market: str
    weight: float | None


@kandle.stream("traced")
@dataclass(frozen=True)
class Traced:
    """Events whose source stands in a header."""

    time: Annotated[datetime, Timestamp()]
    name: Annotated[str, Key(0)]
    price: Price
    source: Annotated[str | None, Header("source-id")] = None


@kandle.stream("traced_bars")
@dataclass(frozen=True)
class TracedBar:
    name: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    highest: Price
    sources: int
    last_source: str | None


@kandle.stream("stamped", value_format="JSON")
@dataclass(frozen=True)
class Stamped:
    """JSON with times as text."""

    code: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp(), DatetimeFormat("%Y-%m-%dT%H:%M:%S.%3fZ")]
    sent: Annotated[datetime | None, DatetimeFormat("%Y/%m/%d %H:%M:%S")]
    price: Annotated[Decimal, Precision(9, 2)]


@kandle.stream("stamped_bars", value_format="JSON")
@dataclass(frozen=True)
class StampedBar:
    code: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    last_sent: datetime | None
    price: Annotated[Decimal, Precision(9, 2)]


@kandle.stream("2-probes.raw", partitions=2, value_format="JSON")
@dataclass(frozen=True)
class Probe:
    """A topic whose name no Avro schema can have; times as text with an offset."""

    plant: Annotated[str, Key(0)]
    line: Annotated[int, Key(1)]
    taken: Annotated[datetime, Timestamp(), DatetimeFormat("%Y-%m-%dT%H:%M:%S.%3f%z")]
    value: Annotated[Decimal, Precision(9, 2)]


@kandle.stream("probe-bars")
@dataclass(frozen=True)
class ProbeBar:
    plant: Annotated[str, Key(0)]
    line: Annotated[int, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    value: Annotated[Decimal, Precision(9, 2)]


@kandle.stream("broker_quotes", partitions=2)
@dataclass(frozen=True)
class BrokerQuote:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Price


@kandle.stream("pings")
@dataclass(frozen=True)
class Ping:
    """No field but keys and time has a value in every event."""

    host: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    note: str | None = None


@kandle.stream("ping_bars")
@dataclass(frozen=True)
class PingBar:
    host: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    pings: int


@kandle.stream("enriched")
@dataclass(frozen=True)
class Enriched:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    name: str | None
    lots: int | None


@kandle.stream("pairs")
@dataclass(frozen=True)
class Pair:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    traded: Price
    quoted: Price
    venue: str


@kandle.stream("lots")
@dataclass(frozen=True)
class LotBar:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    lots: int
    high: Price


@kandle.stream("copies")
@dataclass(frozen=True)
class Copy:
    """Without a key."""

    symbol: str
    double: int


@kandle.stream("large_trades")
@dataclass(frozen=True)
class LargeTrade:
    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    value: Annotated[Decimal, Precision(38, 6)]


@kandle.stream("by_buyer", retention="12h")
@dataclass(frozen=True)
class ByBuyer:
    buyer: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    time: Annotated[datetime, Timestamp()]
    price: Price


@kandle.table("totals")
@dataclass(frozen=True)
class Total:
    symbol: Annotated[str, Key(0)]
    trades: int
    volume: int
    newest: Price


@kandle.table("lots_by_name")
@dataclass(frozen=True)
class LotsByName:
    name: Annotated[str, Key(0)]
    instruments: int
    lots: int


@kandle.table("instrument_names")
@dataclass(frozen=True)
class InstrumentName:
    code: Annotated[str, Key(0)]
    label: str
