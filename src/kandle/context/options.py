"""Options of a context: from code, else the environment (`KANDLE_...`), else `kandle.toml`, else defaults."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    ValidationError,
)
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
    Section,
    StateOptions,
    TopicOptions,
    UniverseOptions,
)
from kandle.errors import OptionsError

DEFAULT_FILE = "kandle.toml"
PREFIX = "KANDLE_"


class Options(BaseSettings):
    """Options of a context; what is not given in code comes from the environment, such as `KANDLE_LOG__PATH=/data/kandle`.

    `validation`: whether what is doubtful in a model is an error ("strict") or a warning ("relaxed"). `access`: what
    its sets may do. `context`: `module:Class` that the command line uses when none is named. `topics`: creation settings by
    topic. The sections are documented at their classes.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

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

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise OptionsError(_message(error, None, "")) from error

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
        try:
            return _with_file(cls, content)(**values)
        except OptionsError as error:
            if isinstance(error.__cause__, ValidationError):
                raise OptionsError(_message(error.__cause__, place, text)) from error.__cause__
            raise


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


def _message(error: ValidationError, place: Path | None, text: str) -> str:
    """The first problem: file and line, key, what was given, what is valid."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = _line_of(str(first["loc"][-1]), place, text)
    if first["type"] != "extra_forbidden":
        given = "" if _may_be_secret(key) else f" = {first.get('input')!r}"
        # Our own validators' words, without what the library puts before them.
        said = first["ctx"]["error"] if first["type"] == "value_error" else first["msg"]
        return f"{where}option {key!r}{given}: {said}"
    valid = _valid([str(part) for part in first["loc"][:-1]])
    close = difflib.get_close_matches(str(first["loc"][-1]), valid, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{where}unknown option {key!r}; {hint}valid are {', '.join(valid)}"


def _may_be_secret(key: str) -> bool:
    """Whether what was given under a key must not be printed."""
    secret = (
        "kafka.properties",
        "kafka.consumer",
        "kafka.producer",
        "schema_registry",
        "ksqldb.password",
        "ksqldb.key_password",
        "ksqldb.properties",
    )
    return key.startswith(secret)


def _valid(section: list[str]) -> list[str]:
    """The options that there are in a section."""
    if not section:
        return list(Options.model_fields)
    if section[0] == "topics":
        return list(TopicOptions.model_fields)
    kind = Options.model_fields[section[0]].annotation
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Section) else []


def _line_of(key: str, place: Path | None, text: str) -> str:
    """File and line of a key; a key that is not in the file comes from the environment."""
    if place is None:
        return ""
    pattern = re.compile(rf"""^\s*(["']?{re.escape(key)}["']?\s*=|\[.*\b{re.escape(key)}\b.*\])""")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]
    return f"{place}, line {lines[0]}: " if lines else "environment: "
