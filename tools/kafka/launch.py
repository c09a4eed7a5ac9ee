"""Become a program that the system kills as soon as the process that asked for it has ended, however that ends.

python -m tools.kafka.launch PARENT PROGRAM [ARGUMENT ...]

Where the system is not Linux nothing of the kind exists: there a broker outlives a parent that was killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux; it goes off when the *thread* that started this process ends, and is kept by exec."""


def end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # A parent that ended before the call sends no signal any more.
    if os.getppid() != parent:
        sys.exit(f"process {parent}, which asked for this one, has ended")


def main() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        end_with(int(parent))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
