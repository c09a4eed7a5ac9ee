"""Rows that cannot be computed: found after a frame has failed, so that all others go on.

A frame is computed as a whole. Only if that fails it is halved, and its halves again, until the rows that fail stand alone:

    frame   a b c d e f g h ✗        every expression looks at one row at a time,
    halves  a b c d ✓  e f g h ✗     so a row fails or not whatever stands beside it,
    halves             e f ✗  g h ✓  and the result does not depend on how the input came in batches
    rows               e ✓ f ✗
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import polars as pl

from kandle.engine.compiled import CompiledQuery
from kandle.engine.expressions import FAILURES, ExpressionError, evaluate
from kandle.model.texts import named_rows, value_text
from kandle.query.nodes import Column, walk
from kandle.time.arrays import IntArray

T = TypeVar("T")

NUMBER = "_failure"
"""Column with the number of a failure."""

FEW = 4
"""A frame of at most so many rows that fails is computed row by row."""


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row of a frame that cannot be computed."""

    row: int
    error: ExpressionError


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """An event that cannot be computed.

    Attributes:
        row: Number of the event in its batch.
        field: The fields of the source that the failing expression reads, as text.
        value: Their values, as text.
        reason: What is wrong, as a sentence.
    """

    row: int
    field: str
    value: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class FailedBar:
    """A bar that does not fit its entity.

    Attributes:
        timeframe: Name of the timeframe.
        number: Number of the key in the pipeline's table of keys.
        key: The parts of the group key as text, by the names of the bar's fields.
        start: Start of the bucket, in microseconds.
        field: The field of the bar that cannot be filled.
        value: The value that does not fit, as text, where it is known.
        reason: What is wrong, as a sentence that names entity, field, key, start and timeframe.
    """

    timeframe: str
    number: int
    key: Mapping[str, str]
    start: int
    field: str
    value: str | None
    reason: str


@dataclass(slots=True)
class FailureCollector:
    """Collector of the events and bars that a pipeline leaves out; without one the first of them is an error."""

    events: list[FailedEvent] = field(default_factory=list)
    bars: list[FailedBar] = field(default_factory=list)

    def take_events(self) -> list[FailedEvent]:
        """Return the events that have failed since the last call."""
        events, self.events = self.events, []
        return events

    def take_bars(self) -> list[FailedBar]:
        """Return the bars that have failed since the last call."""
        bars, self.bars = self.bars, []
        return bars

    def clear(self) -> None:
        """Forget all of them."""
        self.events, self.bars = [], []


def split(frame: pl.DataFrame, compute: Callable[[pl.DataFrame], T], begin: int = 0) -> tuple[list[T], list[RowFailure]]:
    """Compute a frame that has failed as a whole in parts.

    Args:
        frame: The frame.
        compute: Computes some rows; raises ExpressionError if one of them fails.
        begin: The number of the frame's first row.

    Returns:
        The results of the rows that can be computed, in their order, and the others.
    """
    size = 1 if frame.height <= FEW else -(-frame.height // 2)
    results: list[T] = []
    failures: list[RowFailure] = []
    for offset in range(0, frame.height, size):
        part = frame.slice(offset, size)
        try:
            results.append(compute(part))
        except ExpressionError as error:
            if part.height == 1:
                failures.append(RowFailure(begin + offset, error))
                continue
            parts, failed = split(part, compute, begin + offset)
            results += parts
            failures += failed
    return results, failures


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The expressions of those rows of a frame that can be computed, and the others."""

    frame: pl.DataFrame
    failures: Sequence[RowFailure] = ()

    def rows(self, height: int) -> IntArray:
        """Return the numbers of the rows that can be computed, of as many as the frame had."""
        rows = np.arange(height)
        return np.delete(rows, [failure.row for failure in self.failures]) if self.failures else rows


def evaluate_rows(frame: pl.DataFrame, expressions: list[pl.Expr], labels: Mapping[str, str]) -> Evaluated:
    """Select expressions of a frame, without the rows for which one of them fails.

    Args:
        frame: The frame to select from.
        expressions: The expressions, each with a name, which look at one row at a time.
        labels: What an expression of some name computes, for messages.
    """
    try:
        return Evaluated(frame.select(expressions))
    except FAILURES:
        errors: dict[int, ExpressionError] = {}
    for expression in expressions:
        for row, error in _failing_rows(frame, expression, labels):
            errors.setdefault(row, error)
    rows = sorted(errors)
    good = frame.filter(~pl.int_range(pl.len()).is_in(rows))
    return Evaluated(evaluate(good, expressions, labels), [RowFailure(row, errors[row]) for row in rows])


def _failing_rows(frame: pl.DataFrame, expression: pl.Expr, labels: Mapping[str, str]) -> Iterator[tuple[int, ExpressionError]]:
    """Yield the rows for which an expression fails; equal rows are tried once, since poison often comes in numbers."""

    def compute(part: pl.DataFrame) -> pl.DataFrame:
        return evaluate(part, [expression], labels)

    names = list(dict.fromkeys(expression.meta.root_names()))
    inputs = frame.select(names) if names else frame
    try:
        compute(inputs)
    except ExpressionError:
        is_flat = names and not any(kind.is_nested() for kind in inputs.schema.values())
        distinct = inputs.unique(maintain_order=True) if is_flat else inputs
        _, failures = split(distinct, compute)
    else:
        return
    if not is_flat:
        yield from ((failure.row, failure.error) for failure in failures)
        return
    failing = distinct[[failure.row for failure in failures]].with_columns(pl.Series(NUMBER, range(len(failures)), pl.Int64))
    numbers = inputs.join(failing, on=names, how="left", nulls_equal=True, maintain_order="left")[NUMBER]
    yield from ((row, failures[number].error) for row, number in enumerate(numbers.to_list()) if number is not None)


def failed_events(query: CompiledQuery, events: pl.DataFrame, failures: Sequence[RowFailure]) -> list[FailedEvent]:
    """Return events that cannot be computed, named by the fields that the failing expressions read."""
    source = {part.name: part.type for part in query.query.source.fields}
    failed = []
    for failure, row in zip(failures, named_rows(events[[failure.row for failure in failures]]), strict=True):
        node = query.event_nodes.get(failure.error.name)
        names = [] if node is None else [part.name for part in walk(node) if isinstance(part, Column) and part.name in source]
        read = {name: value_text(row[name], source[name]) for name in names}
        values = ", ".join("NULL" if text is None else text for text in read.values())
        reason = str(failure.error)
        if read:
            shown = ", ".join(f"{query.query.source.name}.{name} = {text}" for name, text in read.items())
            reason = f"{reason} ({shown})"
        failed.append(FailedEvent(failure.row, ", ".join(read), values if read else None, reason))
    return failed
