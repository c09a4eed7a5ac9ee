"""Frames become bytes while other threads look at them."""

from __future__ import annotations

import subprocess
import sys

PACKING = """
import threading
import polars as pl
from kandle.log.blobs import packed

frame = pl.DataFrame({"number": range(1_000)})
thread = threading.Thread(target=lambda: [packed(frame) for _ in range(500)], daemon=True)
thread.start()
while thread.is_alive():
    frame.columns
"""


def test_a_frame_can_be_looked_at_while_it_is_packed() -> None:
    """Both threads would wait for each other for ever; a process of its own can be ended."""
    subprocess.run([sys.executable, "-c", PACKING], check=True, timeout=60)
