"""The type of arrays of instants; apart from `timeframe`, so that declaring a context need not load numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
"""Instants in microseconds since the epoch, or numbers of keys, groups and rows."""
