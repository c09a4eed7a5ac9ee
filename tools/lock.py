"""Renew constraints.txt: exact names, versions and hashes of everything that development and CI install, and nothing else.

    make lock

Run it with the oldest Python that kandle supports, so that backports which newer versions do without are in the file.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Exact versions for development and CI, renewed by `make lock`.\n"
OWN = re.compile(r"(?m)^(# (WARNING|Consider).*\n)*kandle @ .*\n(    #.*\n)*")
"""The entry of this repository itself, which the extra `dev` names to have the other extras."""

OPTIONS = [
    "--allow-unsafe",
    "--extra=dev",
    "--generate-hashes",
    "--no-emit-find-links",
    "--no-emit-index-url",
    "--no-emit-options",
    "--no-emit-trusted-host",
    "--no-header",
    "--quiet",
    "--strip-extras",
    "--upgrade",
]


def main() -> None:
    target = ROOT / "constraints.txt"
    command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, "--output-file", str(target), "pyproject.toml"]
    subprocess.run(command, check=True, cwd=ROOT)
    text = OWN.sub("", target.read_text(encoding="utf-8"))
    foreign = [line for line in text.splitlines() if "://" in line or line.startswith("--")]
    if foreign:
        sys.exit(f"constraints.txt must hold names, versions and hashes only, but has: {foreign[0]}")
    target.write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    main()
