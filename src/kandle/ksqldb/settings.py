"""Settings of a client of ksqlDB: address, credentials, certificates and timeouts."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from kandle.errors import OptionsError
from kandle.time.timeframe import SECOND, parse_duration

Version = Literal["1.1", "2"]
VERSIONS: tuple[Version, ...] = ("1.1", "2")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificates for `https`.

    Attributes:
        ca: A file of certificate authorities, used instead of those of the system.
        certificate: The certificate of the client, for servers that ask for one.
        key: The private key of that certificate.
        key_password: The password of the key.
        verify: Whether the certificate of the server is checked; False trusts every server.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Return an SSL context with these certificates; raise OptionsError for a file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, self.key_password or "")
        except OSError as error:
            files = ", ".join(str(file) for file in (self.ca, self.certificate, self.key) if file is not None)
            raise OptionsError(f"the certificates for ksqlDB cannot be used ({files}): {error}") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class KsqlSettings:
    """Address of the server, credentials and timeouts.

    Attributes:
        url: The URL of the server, such as `http://localhost:8088`.
        user: The user name for basic authentication.
        password: The password for basic authentication.
        tls: Certificates for `https`.
        http: The HTTP version for queries and inserts; all other requests use HTTP/1.1. Inserts need version 2.
            With `http://` it is used without negotiation, with `https://` it is negotiated.
        connect_timeout: How long to wait for a connection, such as "5s".
        timeout: How long to wait for a response, or for the next part of a streamed response.
        patience: How long to wait until the server has executed a statement.
        attempts: How often a request that may be repeated is sent at most.
        properties: Properties of ksqlDB for all statements and queries, such as `{"auto.offset.reset": "earliest"}`.
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsSettings = TlsSettings()
    http: Version = "2"
    connect_timeout: str = "5s"
    timeout: str = "30s"
    patience: str = "60s"
    attempts: int = 3
    properties: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if "@" in parts.netloc:
            # The URL is not shown, since it contains a password.
            raise OptionsError("the url of ksqlDB contains a user; pass `user` and `password` as settings of their own")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionsError(f"{self.url!r} is not a valid url of ksqlDB; write http://host:8088 or https://host:8088")
        if self.http not in VERSIONS:
            raise OptionsError(f"http={self.http!r} is not a valid HTTP version; write one of {', '.join(VERSIONS)}")
        if (self.user is None) != (self.password is None):
            missing = "user" if self.user is None else "password"
            raise OptionsError(f"`{missing}` of ksqlDB is missing; give both a user and a password, or neither")
        if self.attempts < 1:
            raise OptionsError(f"attempts={self.attempts} of ksqlDB is too small; write 1 or more")
        for text in (self.connect_timeout, self.timeout, self.patience):
            parse_duration(text)

    @property
    def is_secure(self) -> bool:
        """Whether connections are encrypted."""
        return urlsplit(self.url).scheme == "https"

    @property
    def label(self) -> str:
        """The name of the server in messages."""
        return f"ksqlDB at {self.url}"


def seconds(duration: str) -> float:
    """Return a duration such as "30s" in seconds."""
    return parse_duration(duration) / SECOND
