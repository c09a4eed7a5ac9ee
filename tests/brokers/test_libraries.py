"""Kafka's libraries are fetched once, whole or not at all; programs stand in for Java and Maven here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers.needed import kafka_or_skip
from tools.kafka.broker import ROOT
from tools.kafka.errors import DownloadError, MissingToolError
from tools.kafka.libraries import BROKER_JAR, CACHE, java, libraries

FETCHING = f"""
for word in "$@"; do case "$word" in -DoutputDirectory=*) target="${{word#*=}}";; esac; done
mkdir -p "$target" && sleep 0.5 && echo jar > "$target/{BROKER_JAR}" && echo run >> "$RUNS"
"""


class Programs:
    """A folder that is the whole PATH, with programs of our own; `sh` and what it needs are the system's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, script: str) -> None:
        """Put a shell script there under this name."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}")
        path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """No program at all, and an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    return Programs(tmp_path / "programs")


def test_a_missing_maven_is_an_error_by_name(programs: Programs, tmp_path: Path) -> None:
    with pytest.raises(MissingToolError, match="mvn is not on the PATH; install Apache Maven"):
        libraries()
    assert not (tmp_path / "cache").exists()


def test_a_missing_java_is_an_error_by_name(programs: Programs) -> None:
    with pytest.raises(MissingToolError, match="java is not on the PATH; install a Java runtime of version 17"):
        java()


@pytest.mark.parametrize("version", ['openjdk version "11.0.2"', 'java version "1.8.0_402"', "nothing of the kind"])
def test_a_java_that_is_too_old_is_an_error_by_name(programs: Programs, version: str) -> None:
    programs.add("java", f"echo '{version}' >&2")
    with pytest.raises(MissingToolError, match="is not Java 17 or newer"):
        java()


def test_a_java_that_is_new_enough_is_taken(programs: Programs) -> None:
    programs.add("java", "echo 'Picked up JAVA_TOOL_OPTIONS' >&2; echo 'openjdk version \"21\" 2023-09-19' >&2")
    assert java() == str(programs.folder / "java")


def test_what_is_in_the_cache_is_not_fetched_again_and_needs_no_maven(programs: Programs, tmp_path: Path) -> None:
    programs.add("mvn", FETCHING)
    assert libraries() == tmp_path / "cache"
    (programs.folder / "mvn").unlink()
    assert libraries() == tmp_path / "cache"


def test_two_processes_at_once_both_find_a_whole_cache_and_leave_nothing_else(programs: Programs, tmp_path: Path) -> None:
    programs.add("mvn", FETCHING)
    command = [sys.executable, "-c", "from tools.kafka.libraries import libraries; print(libraries())"]
    both = [subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [str(tmp_path / "cache")] * 2
    assert (tmp_path / "runs").read_text() == "run\nrun\n"
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "programs", "runs"}


def test_a_maven_that_fails_is_an_error_that_shows_what_it_said_and_leaves_no_cache(programs: Programs, tmp_path: Path) -> None:
    programs.add("mvn", "echo 'no route to anywhere'; exit 1")
    with pytest.raises(DownloadError, match=r"(?s)could not fetch Kafka.*no route to anywhere"):
        libraries()
    assert not (tmp_path / "cache").exists()


def test_a_cache_folder_with_other_things_in_it_is_left_alone(programs: Programs, tmp_path: Path) -> None:
    programs.add("mvn", FETCHING)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "precious").touch()
    with pytest.raises(DownloadError, match=f"holds something else than Kafka .* set {CACHE}"):
        libraries()
    assert (tmp_path / "cache" / "precious").exists()


def test_without_maven_the_tests_with_kafka_are_skipped_but_fail_in_ci(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.add("java", "echo 'openjdk version \"17.0.1\"' >&2")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="mvn is not on the PATH"):
        kafka_or_skip()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must run the tests with Kafka"):
        kafka_or_skip()
