"""Kafka's libraries: fetched once by Maven into a cache folder that is either whole or not there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools.kafka.errors import DownloadError, MissingToolError

VERSION = "4.3.0"
OLDEST_JAVA = 17
CACHE = "KANDLE_KAFKA_CACHE"
"""Environment variable that names another cache folder."""

HERE = Path(__file__).resolve().parent
BROKER_JAR = f"kafka_2.13-{VERSION}.jar"


def java() -> str:
    """Path of a Java that can run Kafka; MissingToolError if there is none."""
    install = f"install a Java runtime of version {OLDEST_JAVA} or newer, such as OpenJDK {OLDEST_JAVA}"
    path = shutil.which("java")
    if path is None:
        raise MissingToolError(f"java is not on the PATH; {install}")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise MissingToolError(f"{path} is not Java {OLDEST_JAVA} or newer ({' '.join(said.split())[:80]}); {install}")
    return path


def cache_folder() -> Path:
    """Where the libraries are, or would be."""
    named = os.environ.get(CACHE)
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "kandle" / f"kafka-{VERSION}"


def libraries() -> Path:
    """Folder with all of Kafka's libraries; fetched first, in about 10 s, if they are not there."""
    folder = cache_folder()
    if not _is_whole(folder):
        _fetch(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    return (folder / BROKER_JAR).is_file()


def _fetch(folder: Path) -> None:
    """Fetch beside the cache and rename: two processes at once both succeed, and nobody sees half of it."""
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(f"mvn is not on the PATH; install Apache Maven, or fill {folder} with Kafka's libraries elsewhere")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        fetched = Path(beside) / "libraries"
        _copy(maven, fetched)
        try:
            fetched.rename(folder)
        except OSError as error:
            # Another process was faster, which is as good.
            if not _is_whole(folder):
                raise DownloadError(f"{folder} holds something else than Kafka {VERSION}; remove it or set {CACHE}") from error


def _copy(maven: str, target: Path) -> None:
    command = [maven, "--quiet", "--batch-mode", "--file", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if ended.returncode or not _is_whole(target):
        raise DownloadError(f"Maven could not fetch Kafka {VERSION}; it said:\n{ended.stdout[-2_000:]}")
