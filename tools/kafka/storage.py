"""What a cluster keeps in its folder: a note of what it is, and a data folder for each broker, which Kafka wants formatted."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools.kafka.errors import SettingsError, StartError

NOTE = "cluster.json"


def cluster_id(folder: Path, brokers: int) -> str:
    """Name that Kafka gives the cluster in this folder; made up at first, SettingsError for another number of brokers."""
    note = folder / NOTE
    if not note.exists():
        _write(note, {"id": _new_id(), "brokers": brokers})
    noted = json.loads(note.read_text(encoding="utf-8"))
    if noted["brokers"] != brokers:
        raise SettingsError(f"{folder} has data of {noted['brokers']} brokers, not {brokers}; take as many, or another folder")
    return str(noted["id"])


def format_data(java: Sequence[str], identifier: str, settings: Sequence[Path]) -> None:
    """Have Kafka prepare the data folders that these files of properties name, side by side."""
    command = [*java, "kafka.tools.StorageTool", "format", "--cluster-id", identifier, "--ignore-formatted", "--config"]
    running = [
        subprocess.Popen(
            [*command, str(each)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for each in settings
    ]
    said = [process.communicate()[0] for process in running]
    for process, words in zip(running, said, strict=True):
        if process.returncode:
            raise StartError(f"Kafka could not prepare its data; it said:\n{words[-2_000:]}")


def _new_id() -> str:
    # Sixteen bytes, of which the first are given: an identifier that begins with a dash would be taken for an option.
    return base64.urlsafe_b64encode(b"kandle" + secrets.token_bytes(10)).decode().rstrip("=")


def _write(note: Path, content: dict[str, str | int]) -> None:
    unfinished = note.with_suffix(".new")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    os.replace(unfinished, note)
