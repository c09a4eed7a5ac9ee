"""All cases of the catalogue by name, theme after theme."""

from __future__ import annotations

from tests.ksql.programs import aggregates, joining, keys, over_time, without_window
from tests.ksql.programs.cases import DECLARED

THEMES = (over_time, aggregates, keys, joining, without_window)
CASES = {case.name: case for theme in THEMES for case in DECLARED if case.declare.__module__ == theme.__name__}
