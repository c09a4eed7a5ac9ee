"""Names of topics and of entities in variables of the environment, which have no case, and in most shells no dots and dashes.

A variable is read before it is known which topics there are, so its section has the name in small letters at first. Once the
model of a context is known, the section gets the name that is meant:

    KANDLE_TOPICS__MARKET_TICKS__PARTITIONS=3      topics.market_ticks      a topic Market.ticks: topics."Market.ticks"
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import ValidationError

from kandle.context.options import Options
from kandle.context.sections import Section
from kandle.context.variables import PREFIX, spelled
from kandle.errors import OptionsError

NAMED: dict[str, str] = {"topics": "topic", "entities": "entity"}
"""The sections whose parts have the names of something in the model, and what that is."""


def name_sections(options: Options, kind: Literal["topics", "entities"], names: Collection[str]) -> None:
    """Give the sections that variables of the environment name the names that are meant, in the options themselves.

    Args:
        options: The options of one context (`Options.for_context`).
        kind: Which sections.
        names: The names that there are; a section of none of these stays as it is.

    Raises:
        OptionsError: A variable may mean several names, or does not go with what the file says.
    """
    sections: dict[str, Any] = getattr(options, kind)
    for variable in sorted(options.names_in_variables(kind)):
        meant = _meant(variable, names)
        if len(meant) > 1:
            raise OptionsError(
                f"{options.place_of([kind, variable])}this may be the {NAMED[kind]} {' or '.join(map(repr, meant))}; write these "
                f"settings in a file, or as JSON with the exact name: {PREFIX}{kind.upper()}='{{\"{meant[0]}\": {{...}}}}'"
            )
        if meant and meant[0] != variable and variable in sections:
            sections[meant[0]] = _merged(options, [kind, meant[0]], sections.pop(variable), sections.get(meant[0]))


def _meant(variable: str, names: Collection[str]) -> list[str]:
    """Return the names that a variable may mean: those that differ in case, else those that differ in dots and dashes too."""
    by_case = sorted(name for name in names if name.lower() == variable)
    return by_case or sorted(name for name in names if spelled(name) == spelled(variable))


def _merged(options: Options, path: list[str], given: Section, other: Section | None) -> Section:
    """Return a section of the environment, merged with the one of the same name from code and file."""
    values = {} if other is None else {name: getattr(other, name) for name in other.model_fields_set}
    for name in given.model_fields_set:
        value, known = getattr(given, name), values.get(name)
        is_in_code = name in values and options.is_in_code([*path, name])
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            values[name] = {**value, **known} if is_in_code else {**known, **value}
        elif not is_in_code:
            values[name] = value
    try:
        return type(given)(**values)
    except ValidationError as error:
        reason = re.sub("^Value error, ", "", error.errors()[0]["msg"])
        raise OptionsError(f"{options.place_of(path)}{'.'.join(path)}: {reason}") from error
