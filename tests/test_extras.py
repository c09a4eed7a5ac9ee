"""What works without the optional packages, and what is said where one is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OPTIONAL = ("confluent_kafka", "exchange_calendars", "fastavro", "h2", "httpx2", "pandas", "pyarrow", "rocksdict")

BLOCKED = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL}))
import asyncio
from pathlib import Path
import kandle
from kandle import Context, Options
from examples.gold import Gold, Trade, TradeBar
"""

OPENED = """
with Gold(Options({options})) as gold:
    {statement}
"""

TRADES = "time,symbol,price,size\n2024-03-08T14:30:01Z,GC,2100.5,3\n2024-03-08T14:30:02Z,GC,2101.5,4\n"


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process in which no optional package can be imported."""
    root = Path(__file__).resolve().parent.parent
    paths = f"import sys; sys.path.insert(0, {str(root)!r})\n"
    return subprocess.run([sys.executable, "-c", paths + BLOCKED + code], capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize(
    ("options", "statement", "package", "extra"),
    [
        ("log={'kind': 'kafka'}", "pass", "confluent_kafka", "kafka"),
        ("state={'store': 'rocksdb'}", "pass", "rocksdict", "rocksdb"),
        ("log={'kind': 'kafka'}, engine={'kind': 'ksqldb'}", "pass", "h2", "ksqldb"),
        ("access='read_write'", "gold.ksql", "h2", "ksqldb"),
    ],
)
def test_a_missing_package_is_an_error_that_names_the_extra(
    options: str, statement: str, package: str, extra: str, tmp_path: Path
) -> None:
    lines = run(OPENED.format(options=options, statement=statement), tmp_path).stderr.splitlines()
    assert lines[-1].startswith("kandle.errors.MissingExtraError: ")
    assert lines[-1].endswith(f'needs the package {package}, which is not installed: pip install "kandle[{extra}]"')


def test_an_error_inside_of_an_optional_package_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "rocksdict.py").write_text("raise ImportError('libzstd.so.1: cannot open shared object file')")
    code = f"del sys.modules['rocksdict']; sys.path.insert(0, {str(tmp_path)!r}); import kandle.store.rocks"
    assert run(code, tmp_path).stderr.splitlines()[-1] == "ImportError: libzstd.so.1: cannot open shared object file"


def test_the_core_alone_makes_bars_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "trades.csv").write_text(TRADES)
    done = run("print(kandle.backfill(Gold, ticks='trades.csv').summary.ticks_read)", tmp_path)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_the_core_alone_runs_queries_on_the_embedded_log(tmp_path: Path) -> None:
    code = """
from datetime import datetime, timezone
from decimal import Decimal

with kandle.testing.context(Gold, "2024-03-08T14:30:00Z", log={"path": "data"}) as gold:
    gold.trades.add(Trade(datetime(2024, 3, 8, 14, 30, tzinfo=timezone.utc), "GC", Decimal("2100.5"), 3))
    gold.clock.advance("2m")
    print([bar.volume for bar in gold.finals(TradeBar, "1m")])
"""
    done = run(code, tmp_path)
    assert (done.stdout, done.stderr) == ("[3]\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "examples.gold:Gold"], ["script", "examples.gold:Gold"]])
def test_the_core_alone_has_the_command_line(arguments: list[str], tmp_path: Path) -> None:
    done = run(f"from kandle.cli.app import main; main({arguments})", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
