"""Timeframes, buckets, sessions and clocks; only `clock.py` asks the system for the time.

Each file imports only files below it:

    closings.py   when buckets of any key can be complete
    slots.py      which buckets a schedule expects, and when they are complete
    sessions.py   when each key is open
    buckets.py    which bucket of a timeframe holds an instant
    zones.py      time zones by name
    watermark.py  how far event times have come
    clock.py      the system's clock, one of another speed, one that is moved by hand
    timeframe.py  timeframes, durations and instants as values and texts
    arrays.py     the type of arrays of instants
"""
