"""Options of a context: from code, else the environment (`KANDLE_...`), else `kandle.toml`, else defaults."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from kandle.context.sections import (
    BarOptions,
    ClockOptions,
    ConsumerOptions,
    CopiesOptions,
    DeadLetterOptions,
    EngineOptions,
    EntitySection,
    FieldOptions,
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
from kandle.context.variables import (
    LEVEL,
    PREFIX,
    fields_of,
    names_in_variables,
    spelled,
    unknown_option,
    wrong_variable,
)
from kandle.errors import OptionsError
from kandle.model.markers import Access
from kandle.time.timeframe import duration_text

SECRETS = (
    "kafka.properties",
    "kafka.consumer",
    "kafka.producer",
    "schema_registry",
    "ksqldb.password",
    "ksqldb.key_password",
    "ksqldb.properties",
)
"""Options whose names start like this are never printed."""


def _is_secret(path: Sequence[str]) -> bool:
    is_of_clients = path[:1] == ["topics"] and path[2:3] in (["consumer"], ["producer"])
    return is_of_clients or ".".join(path).startswith(SECRETS)


WORDS = {
    "model_type": "this is a section of options: write them below a line [{name}], or as {{option = value}}",
    "dict_type": "this is a section of options: write them below a line [{name}], or as {{option = value}}",
    "tuple_type": 'give a list in brackets, such as ["north", "ACME"]',
    "path_type": 'give a path as text, such as "kandle-data"',
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "string_type": "give a text in quotes",
}
"""What to write, by the type of error that pydantic reports."""

KEY = re.compile(r"\s*([^=#]+?)\s*=")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where options were given: in code, or in the text of a file; else in the environment."""

    code: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    text: str = ""

    def place_of(self, path: Sequence[str]) -> str:
        """Return where an option was given, to start a message with.

        Args:
            path: The names of the sections and of the option.

        Returns:
            For example `kandle.toml, line 3: `; empty for code.
        """
        if _holds(self.code, path):
            return ""
        if variable := _variable(path):
            return f"environment, {variable}: "
        line = self._line_of(tuple(path))
        return f"{self.file}, line {line}: " if line is not None else ""

    def _line_of(self, path: tuple[str, ...]) -> int | None:
        """Return the line of an option, or of the list or table that contains it."""
        matches = [
            (len(name), -number)
            for number, name, is_value in _lines(self.text)
            if name == path or (is_value and name == path[: len(name)])
        ]
        return -max(matches)[1] if matches else None


def message(error: ValidationError, options: type[BaseModel], origin: Origin) -> str:
    """Return a message about the first problem that pydantic has found.

    Args:
        error: The error of pydantic.
        options: The class of the options.
        origin: Where the options were given.

    Returns:
        The place, the option, the value and what is valid.
    """
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    where, key = origin.place_of(path), ".".join(path)
    if first["type"] != "extra_forbidden":
        given = "" if _is_secret(path) else f" = {first.get('input')!r}"
        return f"{where}option {key!r}{given}: {_problem_text(first, options)}"
    underscores = path[0] in ("topics", "entities") and len(path) > 2 and where.startswith("environment")
    hint = " (two underscores end a name: write one underscore for '.', '-' and '__' in it)" if underscores else ""
    return f"{where}{unknown_option(path, options)}{hint}"


def _problem_text(problem: Mapping[str, Any], options: type[BaseModel]) -> str:
    """Return what is wrong with a value, or what to write."""
    kind, path = problem["type"], [str(part) for part in problem["loc"]]
    if kind == "value_error":
        # The message of our own validator, without the prefix that pydantic adds.
        return str(problem["ctx"]["error"])
    if kind == "greater_than_equal" and _is_duration(options, path):
        return f'give a duration of at least {duration_text(problem["ctx"]["ge"])}, as a text such as "1s"'
    if kind in WORDS:
        return f"{WORDS[kind].format(name='.'.join(path))}"
    return str(problem["msg"])


def _is_duration(options: type[BaseModel], path: Sequence[str]) -> bool:
    """Return whether an option is a duration in microseconds."""
    option = fields_of(options, path[:-1]).get(path[-1])
    return option is not None and any(isinstance(validator, BeforeValidator) for validator in option.metadata)


def _holds(values: Any, path: Sequence[str]) -> bool:
    """Return whether an option is among the values given in code."""
    for name in path:
        if not isinstance(values, Mapping):
            return True
        if name not in values:
            return False
        values = values[name]
    return True


def _variable(path: Sequence[str]) -> str | None:
    """Return the variable of the environment that sets an option; None without one."""
    spelling = [*path[:1], *map(spelled, path[1:2]), *path[2:]]
    return _variable_of(path) or _variable_of(spelling)


def _variable_of(path: Sequence[str]) -> str | None:
    variables = {name.upper(): name for name in os.environ}
    names = (PREFIX + LEVEL.join(path[:length]).upper() for length in range(len(path), 0, -1))
    above = f"{PREFIX}{LEVEL.join(path)}{LEVEL}".upper()
    below = (original for name, original in variables.items() if name.startswith(above))
    return next((variables[name] for name in names if name in variables), next(below, None))


def _lines(text: str) -> Iterator[tuple[int, tuple[str, ...], bool]]:
    """Yield number, full name, and whether it has a value, of each line that starts a table or sets an option."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("[") and (name := _name(line)) is not None:
            table = name
            yield number, table, False
        elif (key := KEY.match(line)) is not None and (name := _name(f"{key[1]} = 0")) is not None:
            yield number, table + name, True


def _name(line: str) -> tuple[str, ...] | None:
    """Return the dotted name on a line of TOML; None if the line is in the middle of a value."""
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
    """Options of a context.

    What is not given in code comes from the environment, such as `KANDLE_LOG__PATH=/data/kandle`; `Options.load` and
    `Market.open` read a file as well. The sections are documented at their classes, and in docs/configuration.md.

    Attributes:
        validation: Whether a doubtful model is an error (`strict`) or a warning (`relaxed`).
        access: What sets may do: `read_write`, `read_only` or `write_only`.
        context: The `module:Class` that the command line uses when none is named.
        topics: Settings of topics by name, those of queries included.
        entities: Settings of entities by the name of their class.
        fields: What fields are that do not say it themselves.
        bars: The topics of bars.
        log: Where records are stored.
        kafka: The Kafka cluster.
        schema_registry: Where Avro schemas are stored.
        runtime: How queries run.
        heartbeat: The heartbeats that close buckets.
        schedule: How schedules are read.
        universe: The keys for which bars are expected.
        state: Where the state of queries is stored.
        copies: Where this machine keeps copies of topics that are read again and again.
        consumer: How sets are consumed.
        dead_letters: What cannot be used.
        clock: A clock for replays.
        engine: What aggregates events.
        ksqldb: The ksqlDB server.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=LEVEL, extra="forbid", frozen=True)

    validation: Literal["strict", "relaxed"] = "strict"
    access: Access = "read_write"
    context: str | None = None
    topics: dict[str, TopicOptions] = Field(default_factory=dict)
    entities: dict[str, EntitySection] = Field(default_factory=dict)
    fields: FieldOptions = FieldOptions()
    bars: BarOptions = BarOptions()
    log: LogOptions = LogOptions()
    kafka: KafkaOptions = KafkaOptions()
    schema_registry: SchemaRegistryOptions = SchemaRegistryOptions()
    runtime: RuntimeOptions = RuntimeOptions()
    heartbeat: HeartbeatOptions = HeartbeatOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    universe: UniverseOptions = UniverseOptions()
    state: StateOptions = StateOptions()
    copies: CopiesOptions = CopiesOptions()
    consumer: ConsumerOptions = ConsumerOptions()
    dead_letters: DeadLetterOptions = DeadLetterOptions()
    clock: ClockOptions = ClockOptions()
    engine: EngineOptions = EngineOptions()
    ksqldb: KsqlDbOptions = KsqlDbOptions()

    _origin: Origin = PrivateAttr(default_factory=Origin)
    _names: dict[str, frozenset[str]] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        """Read the environment for all options that are not given.

        Args:
            values: Options by name; sections as dicts.

        Raises:
            OptionsError: An option is unknown or its value is not valid.
        """
        if (wrong := wrong_variable(Options)) is not None:
            raise OptionsError(wrong)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise OptionsError(message(error, Options, Origin(values))) from error
        except SettingsError as error:
            raise OptionsError(f"environment: {error}") from error
        self._origin = Origin(values)
        self._names = {kind: names_in_variables(kind) for kind in ("topics", "entities")}

    def for_context(self) -> Self:
        """Return a copy for one context, which gives sections of the environment the names that its topics and entities have."""
        return self.model_copy(update={"topics": dict(self.topics), "entities": dict(self.entities)})

    def names_in_variables(self, kind: str) -> frozenset[str]:
        """Return the names of topics, or of entities, that variables of the environment had when the options were made.

        Args:
            kind: `topics` or `entities`.

        Returns:
            The names in small letters.
        """
        return self._names.get(kind, frozenset())

    def is_in_code(self, path: Sequence[str]) -> bool:
        """Return whether an option was given in code.

        Args:
            path: The names of the sections and of the option.

        Returns:
            Whether it was; code counts before the environment and the file.
        """
        return _holds(self._origin.code, path)

    def place_of(self, path: Sequence[str]) -> str:
        """Return where an option was given, to start a message with.

        Args:
            path: The names of the sections and of the option.

        Returns:
            For example `kandle.toml, line 3: `; empty for code.
        """
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
        """Return the sources of pydantic-settings: code before environment, and nothing else.

        Args:
            settings_cls: The class of the options.
            init_settings: The options given in code.
            env_settings: The options of the environment.
            dotenv_settings: Not used.
            file_secret_settings: Not used.

        Returns:
            The sources, the strongest first.
        """
        return init_settings, env_settings

    @classmethod
    def load(cls, path: str | Path = DEFAULT_FILE, **values: Any) -> Options:
        """Read the options of a file, of the environment and of code; code wins over environment, environment over file.

        Args:
            path: The file; the default file may be missing.
            values: Options by name; sections as dicts.

        Returns:
            The options.

        Raises:
            OptionsError: The file does not exist, or an option is unknown or its value is not valid; the message names the
                line of the file or the variable.
        """
        file = Path(path)
        if not file.exists():
            if str(path) == DEFAULT_FILE:
                return cls(**values)
            raise OptionsError(f"there is no configuration file {file}")
        text = _text_of(file)
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise OptionsError(f"{file} is not TOML: {error}") from error
        origin = Origin(values, file, text)
        try:
            options = _with_file(cls, content)(**values)
        except OptionsError as error:
            if isinstance(error.__cause__, ValidationError):
                raise OptionsError(message(error.__cause__, Options, origin)) from error.__cause__
            raise
        options._origin = origin
        return options


def _text_of(file: Path) -> str:
    """Return the text of a configuration file; OptionsError if it cannot be read as text."""
    try:
        content = file.read_bytes()
    except IsADirectoryError:
        raise OptionsError(f"{file} is a folder, not a configuration file; move it away, or name another file") from None
    except OSError as error:
        raise OptionsError(f"{file} cannot be read: {error.strerror or error}") from error
    try:
        # Some editors begin a text with a mark of its encoding.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OptionsError(
            f"{file}, line {line}: the byte 0x{content[error.start]:02x} is not UTF-8; save the file with the encoding UTF-8"
        ) from error


def _with_file(cls: type[Options], content: dict[str, Any]) -> type[Options]:
    """Return a class of options for which the content of a file counts least; sections are merged name by name."""

    class WithFile(cls):  # type: ignore[valid-type, misc]
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            sources = super().settings_customise_sources(settings_cls, *sources, **named)
            return *sources, InitSettingsSource(settings_cls, init_kwargs=content)

    return WithFile
