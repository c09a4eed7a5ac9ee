"""Ctrl-C in a command: exit code 130 and one line, also while the modules of the command are being loaded.

Python raises KeyboardInterrupt wherever it is, so a command that is interrupted while it imports would show a traceback of the
import. As long as there is nothing to be cleaned up, before and after the work of a command, an interrupt ends the process:

    python starts | import kandle, typer, ... | the command works             | its exit code is known
                  | ends the process          | raises KeyboardInterrupt      | ends the process

This is imported first of all, and does nothing where kandle is imported as a library.
"""

# The module `signal` is loaded later: it brings others, during whose import nothing would hold an interrupt back.
import _signal  # type: ignore[import-not-found]
import os
import sys

INTERRUPTED = 130
"""The exit code of a process that SIGINT has ended, as shells give it."""


def is_command() -> bool:
    """Return whether this process is the command `kandle`, or `python -m kandle.cli`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m" or program.endswith(os.path.join("kandle", "cli", "__main__.py")):
        return "kandle.cli" in sys.orig_argv
    return os.path.basename(program) in ("kandle", "kandle.exe", "kandle-script.py")


def end_when_interrupted() -> None:
    """End the process at an interrupt from now on, unless whoever has started it wants interrupts to be ignored."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _end)


def raise_when_interrupted() -> None:
    """Have interrupts raise KeyboardInterrupt again."""
    if _signal.getsignal(_signal.SIGINT) is _end:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    os.write(2, b"kandle: interrupted\n")
    os._exit(INTERRUPTED)


if is_command():
    end_when_interrupted()
