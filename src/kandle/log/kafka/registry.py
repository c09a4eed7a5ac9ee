"""The schema registry of a server: the Confluent Schema Registry, or another one with its HTTP interface.

Its client library raises the errors of its HTTP library (httpx2), so this module imports that as well.
Messages never show a secret of the URL or of the settings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from kandle.errors import AccessError, OptionalImport, OptionsError, SchemaError, UnavailableError
from kandle.serde.compatibility import Compatibility, incompatibilities, incompatible
from kandle.serde.registry import Registered

# A dependency of the client shows every user a warning that is meant for the client's authors.
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
DEFAULTS = {"timeout": 10, "max.retries": 2, "retries.wait.ms": 200, "retries.max.wait.ms": 1_000}


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Where the registry is, and how its client is set up.

    Attributes:
        url: The URL, or several with commas between them.
        properties: Settings of the client library (`basic.auth.user.info`, `ssl.ca.location`, `timeout`,
            ...). They may hold secrets, so they are never printed.
        rule: The compatibility that is set for new subjects; None leaves it to the server.
    """

    url: str = field(repr=False)
    properties: Mapping[str, object] = field(default_factory=dict, repr=False)
    rule: Compatibility | None = None

    @property
    def public_url(self) -> str:
        """The URL without user and password."""
        return ",".join(map(_without_user, self.url.split(",")))


def _without_user(url: str) -> str:
    parts = urlsplit(url.strip())
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class HttpRegistry:
    """Schemas of a server. A schema is asked for once. May be used by several threads."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._subject = f"the schema registry at {settings.public_url} ({OPTION})"
        try:
            # Not all of its methods are annotated.
            self._client: Any = SchemaRegistryClient({**DEFAULTS, **settings.properties, "url": settings.url})
        except (ValueError, TypeError, OSError) as error:
            reason = self._without_secrets(str(error))
            raise OptionsError(f"schema registry at {settings.public_url} ({OPTION}): {reason}") from None

    def register(self, subject: str, schema: str) -> int:
        """Register a schema, unless it is registered, and return its number."""
        with self._translate_errors(f"subject {subject}"):
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
        """Return the schema of a number, or None if there is none; SchemaError if it is not one of Avro."""
        with self._translate_errors(f"schema {number}"):
            # The client keeps the answer.
            schema = _none_if_unknown(lambda: self._client.get_schema(number))
        return None if schema is None else _avro_text(schema, f"schema {number}")

    def latest(self, subject: str) -> Registered | None:
        """Return the latest schema of a subject, or None if it has none."""
        with self._translate_errors(f"subject {subject}"):
            return self._latest(subject)

    def _latest(self, subject: str) -> Registered | None:
        # The client would keep its first answer for ever.
        self._client.clear_latest_caches()
        version = _none_if_unknown(lambda: self._client.get_latest_version(subject))
        if version is None:
            return None
        schema = _avro_text(version.schema, f"subject {subject}")
        return Registered(subject, int(version.version), int(version.schema_id), schema)

    def differences(self, subject: str, schema: str) -> tuple[str, ...]:
        """Return what makes a schema incompatible with those of a subject, in words."""
        with self._translate_errors(f"subject {subject}"):
            is_compatible = _none_if_unknown(lambda: self._client.test_compatibility(subject, Schema(schema, AVRO)))
            return () if is_compatible is None or is_compatible else self._reasons(subject, schema, None)

    def _reasons(self, subject: str, schema: str, error: SchemaRegistryError | None) -> tuple[str, ...]:
        """Return why a schema is incompatible, in words of kandle or else in those of the server."""
        latest = self._latest(subject)
        before = [] if latest is None else [latest.schema]
        for rule in (Compatibility.BACKWARD, Compatibility.FORWARD):
            if reasons := incompatibilities(schema, before, rule):
                return reasons
        return (self._without_secrets(str(error.error_message)) if error is not None else "the registry says so",)

    @contextmanager
    def _translate_errors(self, request: str) -> Iterator[None]:
        """Raise errors of kandle in place of those of the client and the server."""
        try:
            yield
        except (httpx2.HTTPError, httpx2.InvalidURL, OAuthTokenError) as error:
            reason = self._without_secrets(str(error)) or type(error).__name__
            raise UnavailableError(f"{self._subject} cannot be reached for {request}: {reason}") from None
        except SchemaRegistryError as error:
            raise self._error_for(error, request) from None
        except (TypeError, KeyError, ValueError) as error:
            if isinstance(error, SchemaError | OptionsError):
                raise
            reason = self._without_secrets(str(error))
            raise UnavailableError(f"{self._subject} gave no valid answer for {request}: {reason}") from None

    def _error_for(self, error: SchemaRegistryError, request: str) -> Exception:
        message = self._without_secrets(str(error.error_message))
        reason = f"{message} (HTTP {error.http_status_code}, code {error.error_code})"
        if error.http_status_code in REFUSED:
            return AccessError(f"{self._subject} refuses {request}: {reason}; check basic.auth.user.info or the certificates")
        if error.error_code == INVALID_SCHEMA:
            return SchemaError(f"{request}: the schema registry does not take the schema: {reason}")
        # Any other error says nothing about the schema, so records must not be rejected because of it.
        return UnavailableError(f"{self._subject} gives no answer for {request}: {reason}")

    def _without_secrets(self, text: str) -> str:
        secrets = [str(value) for name, value in self._settings.properties.items() if _is_secret(name)]
        secrets += [part for secret in secrets for part in secret.split(":", 1)[1:]]
        for url in self._settings.url.split(","):
            text = text.replace(url, _without_user(url))
            secrets.append(urlsplit(url.strip()).password or "")
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _is_secret(name: str) -> bool:
    return any(word in name for word in ("auth", "password", "secret", "token"))


def _none_if_unknown(ask: Callable[[], T]) -> T | None:
    """Return an answer, or None if the server does not know the subject, version or schema."""
    try:
        return ask()
    except SchemaRegistryError as error:
        if error.error_code in (UNKNOWN_SUBJECT, UNKNOWN_VERSION, UNKNOWN_SCHEMA):
            return None
        raise


def _avro_text(schema: Schema, name: str) -> str:
    kind = schema.schema_type or AVRO
    if kind != AVRO or schema.schema_str is None:
        raise SchemaError(f"{name} is a schema of {kind}, not of {AVRO}")
    if schema.references:
        names = ", ".join(str(reference.name) for reference in schema.references)
        raise SchemaError(f"{name} refers to other schemas ({names}), which kandle does not read")
    return schema.schema_str
