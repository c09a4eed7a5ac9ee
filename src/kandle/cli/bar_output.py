"""Bars as a table on a terminal, as aligned text elsewhere, or as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import typer

from kandle.cli.columns import Columns
from kandle.cli.report import console, frame_table
from kandle.cli.values import cell, json_line
from kandle.model.entity import EntityModel

STATE = "_state"
"""Column that says whether a bar is final or live."""


class BarPrinter:
    """Prints frames of bars; what was final when it was printed is not printed again."""

    def __init__(self, entity: EntityModel, *, is_live: bool, as_json: bool, is_stream: bool) -> None:
        self._names = [found.name for found in entity.fields] + ([STATE] if is_live else [])
        right = [position for position, found in enumerate(entity.fields) if found.type.is_numeric]
        self._titles = {name: "state" if name == STATE else name for name in self._names}
        self._columns = Columns(list(self._titles.values()), right)
        self._keys = [found.name for found in entity.keys]
        self._as_json = as_json
        self._console = console()
        self._has_table = self._console.is_terminal and not (is_stream or as_json)
        self._final = pl.DataFrame()

    def show(self, bars: pl.DataFrame) -> None:
        """Print those that are new."""
        fresh = self._fresh(bars)
        if self._has_table:
            self._console.print(frame_table(self._console, fresh.select(self._names).rename(self._titles)))
            return
        for line in self._lines(fresh):
            typer.echo(line)

    def _fresh(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Bars that were not final before; of those that are, the newest batch is remembered."""
        known = self._final
        fresh = bars if known.is_empty() else bars.join(known, on=self._keys, how="anti", maintain_order="left")
        self._final = bars.filter(pl.col(STATE) == "final").select(self._keys)
        return fresh

    def _lines(self, bars: pl.DataFrame) -> Iterator[str]:
        if self._as_json:
            yield from map(json_line, bars.select(self._names).iter_rows(named=True))
        else:
            yield from self._columns.lines([cell(value) for value in row] for row in bars.select(self._names).iter_rows())
