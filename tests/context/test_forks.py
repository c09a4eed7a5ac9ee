"""Forked processes: a child uses nothing of its parent's contexts, and never hangs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FORKED = """
import multiprocessing, os, signal, sys
from datetime import UTC, datetime
import kandle

from tests.context.test_context import Hit, Site

def fork(name, act):
    child = os.fork()
    if not child:
        signal.alarm(100)
        act()
        os._exit(3)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

def opened():
    return Site.open(runtime={"enabled": False})

def refused(call):
    try:
        call()
    except kandle.StateError as error:
        print("StateError", error, flush=True)
        os._exit(0)

def opens():
    with opened() as other:
        other.hits.to_list()

with opened() as site:
    site.hits.add(Hit("/", datetime.now(UTC)))
    process = multiprocessing.get_context("fork").Process(target=print, args=("child",))
    process.start()
    process.join(100)
    print("process", process.exitcode, flush=True)
    for hit in site.hits:
        fork("uses", lambda: refused(site.hits.to_list))
        break
fork("opens", lambda: refused(opens))
fork("backfills", lambda: refused(lambda: kandle.backfill(Site, ticks=[])))

with opened() as site:
    if not os.fork():
        signal.alarm(100)
        sys.exit(7)
    print("exits in the block", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
with opened() as site:
    child = os.fork()
    if not child:
        signal.alarm(100)
if not child:
    sys.exit(8)
print("leaves the block", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
with opened() as site:
    print("the row is there:", len(site.hits.to_list()) > 0)
"""


def check_forks(folder: Path, **variables: str) -> None:
    """Fork children of a process with an open context, and of one that had one, and look at how they end."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | variables
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    lines = run.stdout.splitlines()
    refusals = [line for line in lines if line.startswith("StateError")]
    assert [line for line in lines if line not in refusals] == [
        "child",
        "process 0",
        "uses 0",
        "opens 0",
        "backfills 0",
        "exits in the block 7",
        "leaves the block 8",
        "the row is there: True",
    ], run.stderr
    assert len(refusals) == 3
    assert all('Start the process by `multiprocessing.get_context("spawn")`' in line for line in refusals)


def test_children_that_use_nothing_of_their_parents_end_as_they_like_and_all_others_are_refused(tmp_path: Path) -> None:
    check_forks(tmp_path)
