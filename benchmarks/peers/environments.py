"""Where the peers live: each in a virtual environment of its own beside the cached Kafka, made on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.kafka.libraries import cache_folder

PATIENCE = 900
"""Seconds for one step of an installation."""
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
PACKAGES = {"quix": ["quixstreams==3.28.1"], "flink": ["apache-flink==2.3.0"]}
CONNECTORS = {
    "flink": [
        "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",
        "org.apache.flink:flink-sql-avro-confluent-registry:2.3.0",
    ]
}


class MissingPeerError(Exception):
    """A peer cannot be installed here."""


def environment(name: str) -> Path:
    """Return the folder of a peer's environment, with its connectors under `jars`; MissingPeerError says why there is none."""
    folder = cache_folder().parent / "peers" / name
    done = folder / ".installed"
    wanted = " ".join([*PACKAGES[name], *CONNECTORS.get(name, ())])
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {wanted} in {folder}", flush=True)
        _install(name, folder)
        done.write_text(wanted)
    return folder


def python(folder: Path) -> str:
    """Return the interpreter of an environment."""
    return str(folder / "bin" / "python")


def _install(name: str, folder: Path) -> None:
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([python(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]])
    for artifact in CONNECTORS.get(name, ()):
        _run([_maven(), "--quiet", "--batch-mode", COPY, f"-Dartifact={artifact}", f"-DoutputDirectory={folder / 'jars'}"])


def _maven() -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingPeerError("mvn, which fetches its connectors, is not on the PATH")
    return maven


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise MissingPeerError(f"{' '.join(command)} took more than {PATIENCE} s") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()[-3:]
        raise MissingPeerError(f"{' '.join(command)}: {' '.join(said)}") from error
