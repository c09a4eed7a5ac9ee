"""Variables of the environment that set options: which there are, and what is wrong with one that sets none.

A section and its option are joined by two underscores: `KANDLE_LOG__PATH` sets `path` in the section `log`. A variable that
begins with `KANDLE_`, but is neither an option nor similar to one, is left to whoever set it.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

PREFIX = "KANDLE_"
LEVEL = "__"

SIMILAR = 0.8
"""How similar a variable must be to that of an option to count as misspelt, as `difflib` measures it."""

MOST_SHOWN = 8
"""How many options of a section a message names."""


def spelled(name: str) -> str:
    """Return how the name of a topic or of an entity is written in a variable: `Market.ticks` as `market_ticks`."""
    return re.sub("[._-]+", "_", name).strip("_").lower()


def names_in_variables(kind: str) -> frozenset[str]:
    """Return the names of topics, or of entities, that variables have, in small letters.

    Args:
        kind: The option whose sections have such names.
    """
    start = f"{PREFIX}{kind}{LEVEL}".upper()
    return frozenset(name[len(start) :].split(LEVEL)[0].lower() for name in os.environ if name.upper().startswith(start))


def wrong_variable(options: type[BaseModel]) -> str | None:
    """Look for a variable that is misspelt, or that gives a section as a text.

    Args:
        options: The class of the options.

    Returns:
        A message about the first such variable; None without one.
    """
    for name in sorted(os.environ):
        if not name.upper().startswith(PREFIX):
            continue
        path = name.upper().removeprefix(PREFIX).lower().split(LEVEL)
        if path[0] not in options.model_fields:
            problem = _misspelt(name, path, options)
        else:
            problem = _section_as_text(path, os.environ[name], options)
        if problem is not None:
            return f"environment, {name}: {problem}"
    return None


def _misspelt(name: str, path: Sequence[str], options: type[BaseModel]) -> str | None:
    """Return what is wrong with a variable whose first part is no option; None if it is not meant to be one."""
    known = dict(_variables(options))
    nearest = _nearest(name, known)
    if nearest is not None:
        other = known[nearest]
        levels = f" (two underscores between {other[0]} and {other[1]})" if len(other) > 1 and len(path) == 1 else ""
        return f"no option has this name; did you mean {nearest}{levels}?"
    if len(path) > 1:
        return unknown_option([path[0]], options)
    section = next((field for field in options.model_fields if path[0].startswith(f"{field}_")), None)
    if section is None:
        return None
    return f"no option has this name; those of the section {section} are {_listed(section, options)}"


def _nearest(name: str, known: Mapping[str, Sequence[str]]) -> str | None:
    """Return the variable of an option that is most similar to a name, wherever underscores stand in it."""
    by_letters = {_letters(variable): variable for variable in known}
    close = difflib.get_close_matches(_letters(name.upper()), list(by_letters), 1, SIMILAR)
    return by_letters[close[0]] if close else None


def _letters(variable: str) -> str:
    return variable.removeprefix(PREFIX).replace("_", "")


def _section_as_text(path: Sequence[str], value: str, options: type[BaseModel]) -> str | None:
    """Return what is wrong with the value of a section, which must be an object in JSON."""
    is_below = len(path) > 1
    section = section_of(options.model_fields[path[0]].annotation) if not is_below else None
    kind = _fields_kind(options, path)
    if section is None and not _is_complex(kind):
        return None
    try:
        json.loads(value)
    except ValueError:
        pass
    else:
        return None
    shown = PREFIX + LEVEL.join(path).upper()
    if section is None:
        # The value is not shown, since it may be a secret.
        example = '{"name": "value"}' if get_origin(kind) is dict else '[["north", "ACME"]]'
        return f"the value is not JSON; write it like {shown}='{example}'"
    options_of_value = [field for field, info in section.model_fields.items() if value in get_args(info.annotation)]
    if options_of_value:
        return f"{path[0]} is a section of options; did you mean {shown}{LEVEL}{options_of_value[0].upper()}={value}?"
    return f"{path[0]} is a section of options, not an option; set those in it: {_listed(path[0], options)}"


def _fields_kind(options: type[BaseModel], path: Sequence[str]) -> Any:
    """Return the type of the option at a path; None where there is none."""
    field = fields_of(options, path[:-1]).get(path[-1])
    return None if field is None else field.annotation


def _is_complex(kind: Any) -> bool:
    """Return whether a value of this type is written as JSON."""
    return get_origin(kind) in (dict, tuple, list)


def _listed(section: str, options: type[BaseModel]) -> str:
    names = [variable for variable, path in _variables(options) if path[0] == section]
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


def _variables(options: type[BaseModel], path: Sequence[str] = ()) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the variable of each option, with its path."""
    for name, field in fields_of(options, path).items():
        below = [*path, name]
        if section_of(field.annotation) is not None:
            yield from _variables(options, below)
        else:
            yield PREFIX + LEVEL.join(below).upper(), below


def unknown_option(path: Sequence[str], options: type[BaseModel]) -> str:
    """Return a message about an option that does not exist, with the valid ones.

    Args:
        path: The names of the sections and of the option.
        options: The class of the options.
    """
    valid = list(fields_of(options, path[:-1]))
    close = difflib.get_close_matches(path[-1], valid, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown option {'.'.join(path)!r}; {hint}valid are {', '.join(valid)}"


def fields_of(options: type[BaseModel], path: Sequence[str]) -> Mapping[str, Any]:
    """Return the options that are valid below a path of names.

    Args:
        options: The class of the options.
        path: The names of the sections.
    """
    section: type[BaseModel] | None = options
    named_by_user: type[BaseModel] | None = None
    for name in path:
        if named_by_user is not None:
            # Any name is valid, such as that of a topic.
            section, named_by_user = named_by_user, None
            continue
        kind = section.model_fields[name].annotation if section is not None and name in section.model_fields else None
        section, named_by_user = section_of(kind), next(filter(None, map(section_of, get_args(kind))), None)
    return {} if section is None else section.model_fields


def section_of(kind: Any) -> type[BaseModel] | None:
    """Return the class of a section if a type is one."""
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
