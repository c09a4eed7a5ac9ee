"""A Confluent Schema Registry, or another server with its HTTP interface."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from kandle.errors import AccessError, OptionalImport, OptionsError, SchemaError, UnavailableError
from kandle.serde.registry import Compatibility, Registered
from kandle.serde.registry_embedded import incompatibilities, incompatible

# A library of the client's shows every user a warning that is meant for the client's authors.
with OptionalImport("The client of a schema registry", "kafka"), warnings.catch_warnings(record=True):
    import httpx2
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.error import OAuthTokenError, SchemaRegistryError

T = TypeVar("T")

AVRO = "AVRO"
OPTION = "schema_registry.url"
REFUSED = (401, 403)
UNKNOWN_SUBJECT, UNKNOWN_VERSION, UNKNOWN_SCHEMA = 40401, 40402, 40403
CONFLICT, INVALID_SCHEMA = 409, 42201
USUAL = {"timeout": 10, "max.retries": 2, "retries.wait.ms": 200, "retries.max.wait.ms": 1_000}


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Where the registry is; `url` may be several, with commas between them.

    `properties` go to its client as they are (`basic.auth.user.info`, `ssl.ca.location`, `timeout`, ...); they may hold secrets,
    so they are never printed. `rule` is set for subjects that are new; None leaves it to the server.
    """

    url: str = field(repr=False)
    properties: Mapping[str, object] = field(default_factory=dict, repr=False)
    rule: Compatibility | None = None

    @property
    def place(self) -> str:
        """The url without user and password."""
        return ",".join(map(_without_user, self.url.split(",")))


def _without_user(url: str) -> str:
    parts = urlsplit(url.strip())
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class HttpRegistry:
    """Schemas of a server; what was once read under a number is not asked for again. May be used by several threads."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        try:
            # Not all of its calls are annotated.
            self._client: Any = SchemaRegistryClient({**USUAL, **settings.properties, "url": settings.url})
        except (ValueError, TypeError, OSError) as error:
            raise OptionsError(f"schema registry at {settings.place} ({OPTION}): {self._safe(str(error))}") from None

    def register(self, subject: str, schema: str) -> int:
        """The number of the schema, new or not."""
        with self._translated(f"subject {subject}"):
            rule = self._settings.rule
            if rule is not None and self._latest(subject) is None:
                self._client.set_compatibility(subject, rule.value)
            try:
                return int(self._client.register_schema(subject, Schema(schema, AVRO)))
            except SchemaRegistryError as error:
                if error.http_status_code != CONFLICT:
                    raise
                raise incompatible(subject, self._reasons(subject, schema, error), "") from error

    def schema(self, number: int) -> str | None:
        """The schema of that number; SchemaError if it is not one of Avro."""
        with self._translated(f"schema {number}"):
            # The client keeps what it has found.
            found = self._known(lambda: self._client.get_schema(number))
        return None if found is None else _avro_text(found, f"schema {number}")

    def latest(self, subject: str) -> Registered | None:
        """The newest schema of the subject."""
        with self._translated(f"subject {subject}"):
            return self._latest(subject)

    def _latest(self, subject: str) -> Registered | None:
        # The client would keep its first answer for ever.
        self._client.clear_latest_caches()
        found = self._known(lambda: self._client.get_latest_version(subject))
        if found is None:
            return None
        return Registered(subject, int(found.version), int(found.schema_id), _avro_text(found.schema, f"subject {subject}"))

    def differences(self, subject: str, schema: str) -> tuple[str, ...]:
        """What makes the schema incompatible with the newest of the subject."""
        with self._translated(f"subject {subject}"):
            good = self._known(lambda: self._client.test_compatibility(subject, Schema(schema, AVRO)))
            if good is None or good:
                return ()
            return self._reasons(subject, schema, None)

    def _reasons(self, subject: str, schema: str, error: SchemaRegistryError | None) -> tuple[str, ...]:
        """In our words where we see why, else in those of the server."""
        latest = self._latest(subject)
        before = [] if latest is None else [latest.schema]
        for rule in (Compatibility.BACKWARD, Compatibility.FORWARD):
            if own := incompatibilities(schema, before, rule):
                return own
        return (self._safe(str(error.error_message)) if error is not None else "the registry says so",)

    def _known(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except SchemaRegistryError as error:
            if error.error_code in (UNKNOWN_SUBJECT, UNKNOWN_VERSION, UNKNOWN_SCHEMA):
                return None
            raise

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Errors of the client and the server as ours."""
        place = f"the schema registry at {self._settings.place} ({OPTION})"
        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL, OAuthTokenError) as error:
            said = self._safe(str(error)) or type(error).__name__
            raise UnavailableError(f"{place} cannot be reached for {what}: {said}") from None
        except SchemaRegistryError as error:
            raise self._meaning(error, place, what) from None
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, SchemaError | OptionsError):
                raise
            raise UnavailableError(f"{place} gave an answer for {what} that is none: {self._safe(str(error))}") from None

    def _meaning(self, error: SchemaRegistryError, place: str, what: str) -> Exception:
        said = f"{self._safe(str(error.error_message))} (HTTP {error.http_status_code}, code {error.error_code})"
        if error.http_status_code in REFUSED:
            return AccessError(f"{place} refuses {what}: {said}; check basic.auth.user.info or the certificates")
        if error.error_code == INVALID_SCHEMA:
            return SchemaError(f"{what}: the schema registry does not take the schema: {said}")
        # Whatever else it is, it says nothing of the schema, so nobody may take records for bad because of it.
        return UnavailableError(f"{place} gives no answer for {what}: {said}")

    def _safe(self, text: str) -> str:
        """Text without any of the secrets."""
        secrets = [str(value) for name, value in self._settings.properties.items() if _is_secret(name)]
        secrets += [part for each in secrets for part in each.split(":", 1)[1:]]
        for url in self._settings.url.split(","):
            text = text.replace(url, _without_user(url))
            secrets.append(urlsplit(url.strip()).password or "")
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()


def _is_secret(name: str) -> bool:
    return any(word in name for word in ("auth", "password", "secret", "token"))


def _avro_text(found: Schema, what: str) -> str:
    kind = found.schema_type or AVRO
    if kind != AVRO or found.schema_str is None:
        raise SchemaError(f"{what} is one of {kind}, not of {AVRO}")
    if found.references:
        names = ", ".join(str(each.name) for each in found.references)
        raise SchemaError(f"{what} refers to other schemas ({names}), which kandle does not read")
    return found.schema_str
