"""Frames become bytes and bytes frames: for months, and while other threads look at them."""

from __future__ import annotations

import gc
import subprocess
import sys

import polars as pl

from kandle.log.records import decode_frame, encode_frame
from tests.waiting import LIMIT

ENCODING = """
import threading
import polars as pl
from kandle.log.records import encode_frame

frame = pl.DataFrame({"number": range(1_000)})
thread = threading.Thread(target=lambda: [encode_frame(frame) for _ in range(500)], daemon=True)
thread.start()
while thread.is_alive():
    frame.columns
"""


def test_a_frame_can_be_looked_at_while_it_is_encoded() -> None:
    """Run in a process, which can be ended if both threads wait for each other for ever."""
    subprocess.run([sys.executable, "-c", ENCODING], check=True, timeout=LIMIT)


def test_reading_keeps_nothing() -> None:
    """Count objects: a worker reads for months, and a few bytes kept by each read would fill its memory."""
    blob = encode_frame(pl.DataFrame({"number": range(3)}))
    reads = 2_000
    for _ in range(100):
        decode_frame(blob)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(reads):
        decode_frame(blob)
    gc.collect()
    assert sys.getallocatedblocks() - before < reads // 10
