"""Comparisons in the files of the contract are explained like those of a test file."""

import pytest

pytest.register_assert_rewrite(
    "tests.log.building",
    *(f"tests.log.contract_{part}" for part in ("base", "topics", "records", "tails", "keeping", "polls", "commits", "groups")),
)
