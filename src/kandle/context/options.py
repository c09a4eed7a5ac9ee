"""Options of a context: from code, else the environment (`KANDLE_...`), else `kandle.toml`, else defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kandle.errors import OptionsError

DEFAULT_FILE = "kandle.toml"
PREFIX = "KANDLE_"


class TopicOptions(BaseModel):
    """How one topic is created, in the place of what its entity says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partitions: int | None = Field(default=None, ge=1)
    replication: int | None = Field(default=None, ge=1)
    retention: str | None = None


class Options(BaseSettings):
    """Options of a context; what is not given in code comes from the environment, such as `KANDLE_VALIDATION=relaxed`.

    `validation`: whether what is doubtful in a model is an error ("strict") or a warning ("relaxed"). `access`: what
    its sets may do. `context`: `module:Class` that the command line uses when none is named. `topics`: creation settings by
    topic.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    validation: Literal["strict", "relaxed"] = "strict"
    access: Literal["read_write", "read_only", "write_only"] = "read_write"
    context: str | None = None
    topics: dict[str, TopicOptions] = Field(default_factory=dict)

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
        said = {name for name in content if f"{PREFIX}{name}".upper() in map(str.upper, os.environ)}
        try:
            return cls(**{name: value for name, value in content.items() if name not in said} | values)
        except OptionsError as error:
            if isinstance(error.__cause__, ValidationError):
                raise OptionsError(_message(error.__cause__, place, text)) from error.__cause__
            raise


def _message(error: ValidationError, place: Path | None, text: str) -> str:
    """The first problem: file and line, key, what was given, what is valid."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = _line_of(str(first["loc"][-1]), place, text)
    if first["type"] != "extra_forbidden":
        return f"{where}option {key!r} = {first.get('input')!r}: {first['msg']}"
    valid = list(TopicOptions.model_fields) if len(first["loc"]) > 1 else list(Options.model_fields)
    close = difflib.get_close_matches(str(first["loc"][-1]), valid, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{where}unknown option {key!r}; {hint}valid are {', '.join(valid)}"


def _line_of(key: str, place: Path | None, text: str) -> str:
    """File and line of a key; a key that is not in the file comes from the environment."""
    if place is None:
        return ""
    pattern = re.compile(rf"""^\s*(["']?{re.escape(key)}["']?\s*=|\[.*\b{re.escape(key)}\b.*\])""")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]
    return f"{place}, line {lines[0]}: " if lines else "environment: "
