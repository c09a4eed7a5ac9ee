"""Where a ksqlDB is and how it is talked to."""

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
    """Certificates of `https`: `ca` is a file of authorities, in place of those of the system.

    `certificate` and `key` are files for servers that ask who their clients are. `verify=False` trusts every server.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """A context with these certificates; OptionsError names a file that is none."""
        try:
            made = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                made.load_cert_chain(self.certificate, self.key, self.key_password or "")
        except OSError as error:
            files = ", ".join(str(each) for each in (self.ca, self.certificate, self.key) if each is not None)
            raise OptionsError(f"the certificates for ksqlDB cannot be used ({files}): {error}") from error
        if not self.verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


@dataclass(frozen=True, slots=True)
class KsqlSettings:
    """Where the server is, who asks, and how long to wait.

    `http` is the version of queries and inserts; the rest is always asked by HTTP/1.1. Version 2, which inserts of rows need, is
    spoken at once to `http://`, and agreed on with `https://`.
    `timeout` is for one answer, or for the next part of a long one; `patience` for the server to carry a statement out.
    What may be asked twice is, up to `attempts` times. `properties` go with every statement and query (`auto.offset.reset`, ...).
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
            # The text is not shown, for it holds a password.
            raise OptionsError("the url of ksqlDB holds a user; give `user` and `password` for themselves")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OptionsError(f"{self.url!r} is no url of a ksqlDB; write http://host:8088 or https://host:8088")
        if self.http not in VERSIONS:
            raise OptionsError(f"http={self.http!r} is no version for ksqlDB; write one of {', '.join(VERSIONS)}")
        if (self.user is None) != (self.password is None):
            raise OptionsError("ksqlDB takes a user and a password, or neither; one of the two is missing")
        if self.attempts < 1:
            raise OptionsError(f"attempts={self.attempts} of ksqlDB: write 1 or more")
        for text in (self.connect_timeout, self.timeout, self.patience):
            parse_duration(text)

    @property
    def is_secure(self) -> bool:
        return urlsplit(self.url).scheme == "https"

    @property
    def place(self) -> str:
        """How messages name the server."""
        return f"ksqlDB at {self.url}"


def seconds(duration: str) -> float:
    """A duration as libraries of the network take it."""
    return parse_duration(duration) / SECOND
