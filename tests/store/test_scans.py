"""Scans of a store are whole, whatever else happens to the memory of the process while they run."""

from __future__ import annotations

from kandle.store.port import Store


def churn() -> list[bytes]:
    """Small values of many sizes, which take the place of what was freed just now."""
    return [bytes([255 - number]) * size for number in range(20) for size in range(16, 48)]


def test_a_scan_is_whole_while_memory_is_used_again(store: Store) -> None:
    puts = {f"changelog/0/record/{number:020d}".encode(): bytes(4_000) for number in range(20)}
    store.write(puts | {b"changelog/0/recorder": b"", b"changelog/0/next": b""})
    for _ in range(5):
        scan = store.scan(b"changelog/0/record/")
        scanned = {}
        for key, value in scan:
            scanned[key] = value
            churn()
        assert scanned == puts
