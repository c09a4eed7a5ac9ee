"""Options of a context: from code, else the environment (`KANDLE_...`), else `kandle.toml`, else defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from kandle.context.option_errors import LEVEL, PREFIX, Origin, message, unknown_variable
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
