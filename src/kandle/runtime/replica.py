"""The state of one partition as its changelog says: what a task begins with, and what a standby keeps ready for it."""

from __future__ import annotations

from collections.abc import Sequence

from kandle.engine.journal import Journal
from kandle.engine.pipeline import Pipeline
from kandle.errors import StateError
from kandle.log.port import TopicPartition
from kandle.runtime.state import Frames, fingerprint, fingerprint_of, numbers_of, replayed, schedule_positions
from kandle.runtime.surroundings import Surroundings
from kandle.store.changelog import Changelog, Placed, Restored
from kandle.time.watermark import Watermark


class Replica:
    """A pipeline with all that was committed; `follow` brings it up to date with what others commit since."""

    def __init__(self, around: Surroundings, partition: int) -> None:
        self._around = around
        self._plan = around.topics.plan
        self.changelog = Changelog(around.log, TopicPartition(around.topics.changelog, partition), around.store)
        self.journal = Journal()
        self.watermark = Watermark()
        self.has_state = False
        self.is_current = True
        """Whether its calendar is the newest one, rather than that of its snapshot."""
        self.pipeline = self._began(None)
        found = self.changelog.restore()
        if found.changes and found.snapshot is None:
            raise around.topics.state_is_gone(f"partition {partition} begins with a change of a state that is not there")
        self._take(found)

    def follow(self, records: Sequence[Placed]) -> bool:
        """Take what the changelog has `beyond`; False if that does not go on from here: only a new replica helps then."""
        found = self.changelog.follow(records)
        if found is None:
            return False
        self._take(found)
        return True

    def adopted(self, around: Surroundings) -> bool:
        """Be a task's from now on, as of the last commit; False if the changelog does not go on from here."""
        self._around, self.is_current = around, False
        self.changelog.log = around.log
        return self.follow(list(self.changelog.beyond())) and self.changelog.is_whole

    def _take(self, found: Restored) -> None:
        if found.snapshot is not None:
            self._check_plan(found.snapshot)
            self.pipeline = self._began(found.snapshot)
            self.pipeline.restore({name: frame for name, frame in found.snapshot.items() if not name.startswith("_")})
            self._take_numbers(found.snapshot)
        for change in found.changes:
            replayed(self.pipeline, change)
            self._take_numbers(change)
        self.journal.clear()

    def _began(self, snapshot: Frames | None) -> Pipeline:
        """A pipeline with the schedule rows that it had when the snapshot was written."""
        schedule = self._around.schedule
        calendar = newest = None if schedule is None else schedule.calendar
        if snapshot is not None and schedule is not None:
            calendar = schedule.calendar_at(schedule_positions(snapshot)) or newest
        self.is_current = calendar is newest
        return Pipeline(self._plan, calendar, journal=self.journal, expiry=self._around.expiry)

    def _check_plan(self, snapshot: Frames) -> None:
        """State of another declaration must not be gone on with."""
        if fingerprint_of(snapshot) != fingerprint(self._plan):
            name = self._plan.query.target.name
            raise StateError(
                f"the state in topic {self._around.topics.changelog} belongs to another query of {name}; "
                f"give {name} another topic, and the bars of the changed query begin anew there"
            )

    def _take_numbers(self, frames: Frames) -> None:
        self.has_state = True
        self.watermark = Watermark(numbers_of(frames)["watermark"])
