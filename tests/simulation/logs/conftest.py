"""Tests of the contract that are not for logs in memory: those about threads, and those about sizes on a cluster."""

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

OF_SIZES = {
    "test_records_below_an_offset_are_forgotten",
    "test_a_partition_above_its_bytes_loses_its_oldest_records",
    "test_a_compacted_topic_keeps_the_newest_record_of_each_key_at_its_offset",
}
"""Tests that ask for numbers of records and bytes, which brokers do not tell."""


def _is_left_out(item: pytest.Item) -> bool:
    name = getattr(item, "originalname", "")
    return name in OF_THREADS or (name in OF_SIZES and "TestKafkaRules" in item.nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out here."""
    here = Path(__file__).parent
    items[:] = [item for item in items if item.path.parent != here or not _is_left_out(item)]
