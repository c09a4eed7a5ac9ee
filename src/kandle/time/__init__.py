"""Timeframes, buckets, sessions, slots, watermark, clock. Only `clock.py` asks the system for the time."""
