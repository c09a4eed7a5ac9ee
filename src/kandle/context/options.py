"""Options of a context: from code, else the environment (`KANDLE_...`), else `kandle.toml`, else defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from kandle.context.sections import (
    ClockOptions,
    ConsumerOptions,
    EngineOptions,
    HeartbeatOptions,
    KafkaOptions,
    KsqlDbOptions,
    LogOptions,
    RuntimeOptions,
    ScheduleOptions,
    SchemaRegistryOptions,
    StateOptions,
    TopicOptions,
    UniverseOptions,
)
from kandle.errors import OptionsError
from kandle.time.timeframe import duration_text

PREFIX = "KANDLE_"
LEVEL = "__"

SECRETS = (
    "kafka.properties",
    "kafka.consumer",
    "kafka.producer",
    "schema_registry",
    "ksqldb.password",
    "ksqldb.key_password",
    "ksqldb.properties",
)
"""Options that begin so are never printed."""

WORDS = {
    "model_type": "is a section of options: write them below a line [{name}], or as {{option = value}}",
    "dict_type": "is a section of options: write them below a line [{name}], or as {{option = value}}",
    "tuple_type": 'is a list: write it in brackets, such as ["north", "ACME"]',
    "path_type": 'is a path: write it as a text, such as "kandle-data"',
    "int_parsing": "is a whole number",
    "int_type": "is a whole number",
    "string_type": "is a text: write it in quotes",
}
"""What an option is, by the kind of error that the library reports."""

KEY = re.compile(r"\s*([^=#]+?)\s*=")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where options were said: in code, or in the text of a file; else in the environment."""

    code: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    text: str = ""

    def place_of(self, path: Sequence[str]) -> str:
        """Where an option was said, to begin a message with; nothing if it was code."""
        if _holds(self.code, path):
            return ""
        if variable := _variable(path):
            return f"environment, {variable}: "
        line = self._line_of(tuple(path))
        return f"{self.file}, line {line}: " if line is not None else ""

    def _line_of(self, path: tuple[str, ...]) -> int | None:
        """The line of an option, or of the list or table that it is a part of."""
        found = [
            (len(said), number)
            for number, said, is_value in _lines(self.text)
            if said == path or (is_value and said == path[: len(said)])
        ]
        return max(found, key=lambda each: (each[0], -each[1]))[1] if found else None


def message(error: ValidationError, options: type[BaseModel], origin: Origin) -> str:
    """The first problem: place, option, what was given, what is valid."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    where, key = origin.place_of(path), ".".join(path)
    if first["type"] != "extra_forbidden":
        given = "" if key.startswith(SECRETS) else f" = {first.get('input')!r}"
        return f"{where}option {key!r}{given}: {_said(first, options)}"
    return f"{where}{_unknown(path, options)}"


def unknown_variable(options: type[BaseModel]) -> str | None:
    """What is wrong with a variable of the environment that says an option of a section which there is not, if there is one."""
    for name in sorted(os.environ):
        section, level, _ = name.upper().removeprefix(PREFIX).lower().partition(LEVEL.lower())
        if name.upper().startswith(PREFIX) and level and section not in options.model_fields:
            return f"environment, {name}: {_unknown([section], options)}"
    return None


def _unknown(path: Sequence[str], options: type[BaseModel]) -> str:
    valid = list(_fields(options, path[:-1]))
    close = difflib.get_close_matches(path[-1], valid, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown option {'.'.join(path)!r}; {hint}valid are {', '.join(valid)}"


def _said(problem: Mapping[str, Any], options: type[BaseModel]) -> str:
    """What is wrong with a value."""
    kind, path = problem["type"], [str(part) for part in problem["loc"]]
    if kind == "value_error":
        # Our own validators' words, without what the library puts before them.
        return str(problem["ctx"]["error"])
    if kind == "greater_than_equal" and _is_duration(options, path):
        return f'give a duration of at least {duration_text(problem["ctx"]["ge"])}, as a text such as "1s"'
    if kind in WORDS:
        return f"this {WORDS[kind].format(name='.'.join(path))}"
    return str(problem["msg"])


def _fields(options: type[BaseModel], path: Sequence[str]) -> Mapping[str, Any]:
    """The options that there are at a place."""
    place: type[BaseModel] | None = options
    sections: type[BaseModel] | None = None
    for name in path:
        if sections is not None:
            # Any name is one of the user's.
            place, sections = sections, None
            continue
        kind = place.model_fields[name].annotation if place is not None and name in place.model_fields else None
        place, sections = _section(kind), next(filter(None, map(_section, get_args(kind))), None)
    return {} if place is None else place.model_fields


def _section(kind: Any) -> type[BaseModel] | None:
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _is_duration(options: type[BaseModel], path: Sequence[str]) -> bool:
    """Whether an option is a duration, which is kept in microseconds."""
    found = _fields(options, path[:-1]).get(path[-1])
    return found is not None and any(isinstance(each, BeforeValidator) for each in found.metadata)


def _holds(values: Any, path: Sequence[str]) -> bool:
    """Whether values that code gave say anything of an option."""
    for name in path:
        if not isinstance(values, Mapping):
            return True
        if name not in values:
            return False
        values = values[name]
    return True


def _variable(path: Sequence[str]) -> str | None:
    """The variable of the environment that says an option, if there is one."""
    there = {name.upper(): name for name in os.environ}
    names = (PREFIX + LEVEL.join(path[:length]).upper() for length in range(len(path), 0, -1))
    return next((there[name] for name in names if name in there), None)


def _lines(text: str) -> Iterator[tuple[int, tuple[str, ...], bool]]:
    """Number, full name, and whether it has a value, of each line that begins a table or says an option."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("[") and (found := _name(line)) is not None:
            table = found
            yield number, table, False
        elif (key := KEY.match(line)) is not None and (found := _name(f"{key[1]} = 0")) is not None:
            yield number, table + found, True


def _name(line: str) -> tuple[str, ...] | None:
    """The dotted name on a line of TOML; None if it is in the middle of a value."""
    try:
        content: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    names: list[str] = []
    while isinstance(content, dict) and len(content) == 1:
        ((name, content),) = content.items()
        names.append(name)
        if isinstance(content, list):
            break
    return tuple(names)


DEFAULT_FILE = "kandle.toml"


class Options(BaseSettings):
    """Options of a context; what is not given in code comes from the environment, such as `KANDLE_LOG__PATH=/data/kandle`.

    `validation`: whether what is doubtful in a model is an error ("strict") or a warning ("relaxed"). `access`: what
    its sets may do. `context`: `module:Class` that the command line uses when none is named. `topics`: creation settings by
    topic. The sections are documented at their classes.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=LEVEL, extra="forbid", frozen=True)

    validation: Literal["strict", "relaxed"] = "strict"
    access: Literal["read_write", "read_only", "write_only"] = "read_write"
    context: str | None = None
    topics: dict[str, TopicOptions] = Field(default_factory=dict)
    log: LogOptions = LogOptions()
    kafka: KafkaOptions = KafkaOptions()
    schema_registry: SchemaRegistryOptions = SchemaRegistryOptions()
    runtime: RuntimeOptions = RuntimeOptions()
    heartbeat: HeartbeatOptions = HeartbeatOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    universe: UniverseOptions = UniverseOptions()
    state: StateOptions = StateOptions()
    consumer: ConsumerOptions = ConsumerOptions()
    clock: ClockOptions = ClockOptions()
    engine: EngineOptions = EngineOptions()
    ksqldb: KsqlDbOptions = KsqlDbOptions()

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise OptionsError(message(error, Options, Origin(values))) from error

    def place_of(self, path: Sequence[str]) -> str:
        """Where an option was said, such as `kandle.toml, line 3: `, to begin a message with; nothing if it was code."""
        return self._origin.place_of(path)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Code before environment, and nothing else."""
        return init_settings, env_settings

    @classmethod
    def load(cls, path: str | Path = DEFAULT_FILE, **values: Any) -> Options:
        """Options from a file as well, where neither code nor environment says otherwise; a missing default file is no file."""
        if (wrong := unknown_variable(Options)) is not None:
            raise OptionsError(wrong)
        place = Path(path)
        if not place.exists():
            if str(path) == DEFAULT_FILE:
                return cls(**values)
            raise OptionsError(f"there is no configuration file {place}")
        text = place.read_text(encoding="utf-8")
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OptionsError(f"{place} is not TOML: {error}") from error
        origin = Origin(values, place, text)
        try:
            options = _with_file(cls, content)(**values)
        except OptionsError as error:
            if isinstance(error.__cause__, ValidationError):
                raise OptionsError(message(error.__cause__, Options, origin)) from error.__cause__
            raise
        options._origin = origin
        return options


def _with_file(cls: type[Options], content: dict[str, Any]) -> type[Options]:
    """The options with the content of a file as what counts least; sections are merged name by name."""

    class WithFile(cls):  # type: ignore[valid-type, misc]
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            usual = super().settings_customise_sources(settings_cls, *sources, **named)
            return *usual, InitSettingsSource(settings_cls, init_kwargs=content)

    return WithFile
