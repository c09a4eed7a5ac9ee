"""Simulates histories: the runtime of production in one process and one thread, stepped by a random generator with a seed.

A history is drawn from its seed: processes with clocks of their own, events, and faults. All of it takes place on a log in
memory, in simulated time, and is checked afterwards against bars that plain Python makes of the events. The parts:

    histories ── what is drawn from a seed        simulation ── the scheduler, and the faults as they strike
    machine ──── clocks                           process ───── the runtime, and its calls of the log
    laws ─────── what must be true afterwards     running ───── a history from its seed to its timeline; shrinking
    planted ──── faults of one line that must be found

A seed that fails prints its history as a timeline, then the smallest part of it that still fails. `--seed N` replays one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

# Few threads are faster for frames of a few rows.
os.environ.setdefault("POLARS_MAX_THREADS", "2")

from rich.console import Console
from rich.progress import BarColumn as Filled
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.planted import PLANTED, planted
from tests.simulation.running import Result, history_of, result_of, shrunk
from tests.simulation.simulation import WorldRules

RULES: tuple[WorldRules, ...] = ("embedded", "kafka", "sqlite")

MOST_FAILURES = 3
"""After so many seeds that fail it ends."""


def simulate(seeds: range, rules: WorldRules, console: Console) -> tuple[list[Result], Counter[str]]:
    """Simulate the histories of seeds until some have failed; return what failed, and how often what happened."""
    failed: list[Result] = []
    counts: Counter[str] = Counter()
    columns = (TextColumn("{task.description}"), Filled(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("histories", total=len(seeds))
        for seed in seeds:
            result = result_of(history_of(seed), rules)
            progress.advance(task)
            counts.update(result.counts)
            counts["histories"] += 1
            if result.broken:
                failed.append(result)
                console.print(f"[red]seed {seed}[/]: {result.broken[0][:200]}", markup=True, highlight=False)
                if len(failed) == MOST_FAILURES:
                    break
    return failed, counts


def summary(counts: Counter[str], seconds: float) -> Table:
    """Return a table of how often what has happened."""
    table = Table("what happened", "how often", title=f"{60 * counts['histories'] / seconds:.0f} histories a minute")
    for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        table.add_row(name, f"{count:,}")
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=RULES, default="embedded", help="whose rules the log in memory has")
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="replay one seed and print its timeline")
    parser.add_argument("--plant", choices=sorted(PLANTED), help="break kandle by a fault of one line, to see that it is found")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    with planted(options.plant):
        if options.seed is not None:
            result = result_of(history_of(options.seed), options.world)
            print(result.text())
            return 1 if result.broken else 0
        began = time.process_time()
        failed, counts = simulate(range(options.first, options.first + options.seeds), options.world, console)
        console.print(summary(counts, time.process_time() - began))
        if not failed:
            return 0
        print(failed[0].text(), "\nThe smallest part of it that still fails:", sep="\n", flush=True)
        print(shrunk(failed[0], options.world).text())
    return 1


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
