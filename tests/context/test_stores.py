"""Folders of stores: a process that starts again finds that of one before it, and no two have the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kandle import Options
from kandle.context.adapters import store_opener
from kandle.errors import StorageError
from tests.context.test_context import Hit
from tests.sets.test_bars import NOON, Site
from tests.waiting import wait_until


def options(folder: Path, **settings: Any) -> Options:
    return Options(log={"path": folder}, state={"store": "rocksdb"}, **settings)


def test_the_state_of_a_query_is_found_again_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with Site(options(tmp_path)) as site:
            site.hits.add(Hit("/a", NOON))
            wait_until(lambda: any((tmp_path / "state").glob("site/*/0/CURRENT")), "the store")
    [folder] = (tmp_path / "state" / "site").iterdir()
    assert [path.name for path in folder.iterdir()] == ["0"]


def test_stores_that_are_open_at_the_same_time_have_folders_of_their_own(tmp_path: Path) -> None:
    open_store = store_opener(options(tmp_path), "site")
    assert open_store is not None
    first, second = open_store("changelog"), open_store("changelog")
    first.write({b"a": b"1"})
    assert second.get(b"a") is None
    first.close()
    third = open_store("changelog")
    assert third.get(b"a") == b"1"
    second.close()
    third.close()
    assert sorted(path.name for path in (tmp_path / "state" / "site" / "changelog").iterdir()) == ["0", "1"]


def test_a_process_with_a_name_has_its_own_folder_which_no_other_may_open(tmp_path: Path) -> None:
    open_store = store_opener(options(tmp_path, runtime={"instance": "one"}), "site")
    assert open_store is not None
    store = open_store("changelog")
    with pytest.raises(StorageError, match="this process has it open"):
        open_store("changelog")
    store.close()
    assert (tmp_path / "state" / "site-one" / "changelog" / "CURRENT").exists()
