"""Time of `import kandle` beside that of `import polars` alone, in processes of their own that take turns.

    python -m benchmarks.imports [--pairs 15]

It prints the median of the ratios and the quickest of each, and leaves with exit code 1 if the ratio is above the bound.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

BOUND = 2.0
"""Times of `import polars` that `import kandle` may take."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time of import kandle beside import polars.")
    parser.add_argument("--pairs", type=int, default=15, help="how many times each is measured")
    pairs = [(seconds_of("polars"), seconds_of("kandle")) for _ in range(parser.parse_args(arguments).pairs)]
    ratio = statistics.median(kandle / polars for polars, kandle in pairs)
    polars, kandle = (min(column) for column in zip(*pairs, strict=True))
    print(f"import polars {polars * 1e3:.0f} ms, import kandle {kandle * 1e3:.0f} ms (quickest of {len(pairs)})")
    print(f"ratio {ratio:.2f} (median of pairs; at most {BOUND})")
    sys.exit(ratio > BOUND)


def seconds_of(module: str) -> float:
    """Return the seconds that a new process takes to import a module and to end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
