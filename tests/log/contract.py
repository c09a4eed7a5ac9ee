"""What every adapter of the log port promises; each is tested by a class that inherits from `LogContract`."""

from __future__ import annotations

from tests.log.contract_commits import CommitContract
from tests.log.contract_groups import GroupContract
from tests.log.contract_keeping import KeepingContract
from tests.log.contract_polls import PollContract
from tests.log.contract_records import RecordContract
from tests.log.contract_tails import TailContract
from tests.log.contract_topics import TopicContract


class LogContract(TopicContract, RecordContract, TailContract, KeepingContract, PollContract, CommitContract, GroupContract):
    """Subclasses give a `log` fixture and `reopen`, and say how time passes for their log."""
