"""Tests of the contract that are about threads are not for logs that know of one thread only."""

from __future__ import annotations

from pathlib import Path

import pytest

OF_THREADS = {
    "test_a_waiting_poll_ends_with_the_records_of_an_append",
    "test_a_poll_waits_until_wake_ends_it_from_another_thread",
    "test_a_thread_that_is_woken_hundreds_of_times_ends_each_poll_at_once",
    "test_members_on_one_connection_can_wait_in_threads_of_their_own",
    "test_a_poll_of_nothing_but_paused_partitions_waits",
    "test_a_waiting_member_hears_of_one_that_leaves",
    "test_a_waiting_member_makes_room_for_one_that_joins",
    "test_members_in_threads_that_come_and_go_never_share_a_partition_and_process_each_record_once",
    "test_maintenance_while_others_write_loses_no_newest_record",
}
"""Tests of polls that wait until another thread does something, and of what several threads do at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out here."""
    here = Path(__file__).parent
    items[:] = [item for item in items if item.path.parent != here or getattr(item, "originalname", "") not in OF_THREADS]
