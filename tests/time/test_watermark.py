from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kandle.time.watermark import BEFORE_ALL, LONGEST_DELAY, Watermark, proven_times

instants = st.lists(st.integers(-5, 20), max_size=30)


@given(instants)
def test_each_event_sees_the_greatest_time_of_the_events_before_it(times: list[int]) -> None:
    """
    events    3  1  5  4
    before    -  3  3  5
    """
    watermark = Watermark()
    expected = [max(times[:place], default=BEFORE_ALL) for place in range(len(times))]
    assert watermark.observe(np.array(times, dtype=np.int64)).tolist() == expected
    assert watermark.value == max(times, default=BEFORE_ALL)


@given(instants, st.lists(st.integers(0, 30), max_size=5), st.booleans())
def test_any_split_into_batches_gives_the_same(times: list[int], cuts: list[int], restart: bool) -> None:
    whole = Watermark().observe(np.array(times, dtype=np.int64)).tolist()
    watermark, observed = Watermark(), []
    for batch in np.split(np.array(times, dtype=np.int64), sorted(cut % (len(times) + 1) for cut in cuts)):
        observed += watermark.observe(batch).tolist()
        if restart:
            watermark = Watermark(watermark.snapshot())
    assert observed == whole


def test_the_times_of_the_events_are_not_changed() -> None:
    times = np.array([3, 1, 2])
    Watermark(2).observe(times)
    assert times.tolist() == [3, 1, 2]


def test_an_event_proves_its_time_only_if_it_was_appended_then_or_soon_after() -> None:
    """
    time           10   10   10 (future)   10                     10 (history)
    appended       10   11    9            10 + longest delay     one later        not known
    """
    appended = np.array([10, 11, 9, 10 + LONGEST_DELAY, 11 + LONGEST_DELAY, BEFORE_ALL])
    assert proven_times(np.full(6, 10), appended).tolist() == [10, 10, BEFORE_ALL, 10, BEFORE_ALL, BEFORE_ALL]
