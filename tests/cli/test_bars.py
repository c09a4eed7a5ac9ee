import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from rich.console import Console

import kandle.cli.bars
from kandle.cli.bars import BarPrinter
from kandle.cli.demo_market import Bar
from kandle.model.columns import logical_schema
from kandle.model.entity import entity_model

ENTITY = entity_model(Bar)
NOON = datetime(2024, 3, 8, 12, tzinfo=UTC)


def bars(*rows: tuple[str, int, str]) -> pl.DataFrame:
    """Bars of a symbol, some seconds after noon, final or live."""
    price = Decimal("1.50")
    found = [(symbol, NOON + timedelta(seconds=at), price, price, price, price, 7, 1, state) for symbol, at, state in rows]
    return pl.DataFrame(found, schema=logical_schema(ENTITY) | {"_state": pl.String()}, orient="row")


def test_text_is_aligned_and_has_its_head_once(capsys: pytest.CaptureFixture[str]) -> None:
    printer = BarPrinter(ENTITY, is_live=True, as_json=False, is_stream=True)
    printer.show(bars(("A", 0, "final"), ("LONGER", 0, "live")))
    printer.show(bars(("A", 1, "final")))
    head, first, _, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["symbol", "start", "open", "high", "low", "close", "volume", "ticks", "state"]
    assert first == "A       2024-03-08T12:00:00.000Z  1.50  1.50  1.50   1.50       7      1  final"
    assert last.startswith("A       2024-03-08T12:00:01.000Z")


def test_what_was_shown_as_final_is_not_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    printer = BarPrinter(ENTITY, is_live=True, as_json=True, is_stream=True)
    printer.show(bars(("A", 0, "final"), ("A", 1, "live")))
    printer.show(bars(("A", 0, "final"), ("A", 1, "live"), ("A", 1, "final")))
    states = [line[-12:] for line in capsys.readouterr().out.splitlines()]
    assert [state.rstrip('"}').split('"')[-1] for state in states] == ["final", "live", "live", "final"]


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, markup=False)
    monkeypatch.setattr(kandle.cli.bars, "console", lambda: terminal)
    BarPrinter(ENTITY, is_live=False, as_json=False, is_stream=False).show(bars(("A", 0, "final")))
    assert isinstance(terminal.file, io.StringIO)
    assert "──" in terminal.file.getvalue()
    assert "2024-03-08 12:00:00" in terminal.file.getvalue()
