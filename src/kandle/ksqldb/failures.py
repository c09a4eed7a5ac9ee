"""Errors of requests to ksqlDB, translated into KsqlError with advice that fits the case."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import h2.exceptions
import httpx2

from kandle.errors import KsqlError, KsqlUnavailableError
from kandle.ksqldb.settings import KsqlSettings

HTTP2_ONLY = 40004
SELECT_AS_STATEMENT = 40002
SHOWN = 300
"""Number of characters of a response that a message shows."""

NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
BROKEN = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, h2.exceptions.ProtocolError)
UNREADY = (502, 503, 504)
UNREADY_TEXTS = ("Could not write the statement", "Timeout while waiting for command topic consumer")
"""Texts by which a busy command runner is recognised: the server reports it as an internal error (500)."""

ADVICE = {
    401: "check user and password",
    403: "the user lacks the rights for this, or a proxy rejects it; check user, password and the server's access rules",
    404: "there is no ksqlDB under this url, or an unsupported version; check scheme, host, port and path",
    405: "the server under this url is not a ksqlDB, or an unsupported version; check the url",
    407: "a proxy in between asks for credentials; give the url of ksqlDB itself",
    429: "the server is overloaded; try again later",
}
"""Advice by HTTP status."""


def was_never_sent(error: KsqlError) -> bool:
    """Return whether no connection was made, so that the server cannot have received the request."""
    return isinstance(error.__cause__, NEVER_SENT)


@dataclass(frozen=True, slots=True)
class Failures:
    """Translator of errors of one server.

    The `subject` of its methods says what was requested, such as "insert into readings"; it begins the message.
    """

    settings: KsqlSettings

    @contextmanager
    def translated(self, subject: str) -> Iterator[None]:
        """Translate errors of the connection into KsqlUnavailableError."""
        try:
            yield
        except NEVER_SENT as error:
            message = f"cannot be reached: {_reason(error)}; {_connection_advice(error)}"
            raise KsqlUnavailableError(self._text(subject, message)) from error
        except (httpx2.TimeoutException, TimeoutError) as error:
            message = f"did not answer within {self.settings.timeout}; look at its log, or raise `timeout`"
            raise KsqlUnavailableError(self._text(subject, message)) from error
        except BROKEN as error:
            message = f"broke the connection: {_reason(error)}; {self._broken_advice()}"
            raise KsqlUnavailableError(self._text(subject, message)) from error

    def refusal(self, subject: str, status: int, body: bytes) -> KsqlError:
        """Return the error for a response with an HTTP status other than 200."""
        content = self.content(body)
        if isinstance(content, dict) and "message" in content:
            return self._refused(subject, status, content)
        if 300 <= status < 400:
            advice = "redirects are not followed; give the url of ksqlDB itself"
        else:
            advice = ADVICE.get(status, "this is not a response of ksqlDB; check the url, and proxies in between")
        message = f"answers with HTTP {status} and {_excerpt(body)}; {advice}"
        return _error_class(status, "")(self._text(subject, message), status * 100)

    def _refused(self, subject: str, status: int, content: dict[str, Any]) -> KsqlError:
        code, message = _number(content.get("error_code")), str(content["message"]).strip()
        text = f"refuses: {message} (code {code})" if code else f"refuses: {message}"
        advice = self._code_advice(code) or (ADVICE.get(status) if status in (401, 403, 407, 429) else None)
        text += f"; {advice}" if advice else ""
        executed = content.get("entities")
        text += f"; {len(executed)} statements before it were executed" if executed else ""
        statement = content.get("statementText")
        shown = None if statement is None else self.safe(str(statement))
        return _error_class(status, message)(self._text(subject, text), code, shown)

    def _code_advice(self, code: int | None) -> str | None:
        if code == SELECT_AS_STATEMENT:
            return "send SELECT to pull or push, not to execute"
        if code == HTTP2_ONLY and self.settings.http == "1.1":
            return "inserts of rows need HTTP/2: set http='2'"
        if code == HTTP2_ONLY:
            return "inserts of rows need HTTP/2, and a proxy in between speaks HTTP/1.1 only: give the url of ksqlDB itself"
        return None

    def error_row(self, subject: str, content: dict[str, Any]) -> KsqlError:
        """Return the error that the server sent in the place of a row."""
        return self._refused(subject, 200, {"message": "no reason given", **content})

    def nonsense(self, subject: str, expected: str, body: bytes) -> KsqlError:
        """Return the error for a response that cannot be understood."""
        advice = "check that the url is one of a ksqlDB, and proxies in between"
        return KsqlError(self._text(subject, f"answers with {_excerpt(body)} instead of {expected}; {advice}"))

    def cut(self, subject: str, count: int, reason: str) -> KsqlUnavailableError:
        """Return the error for a response that ends too early."""
        return KsqlUnavailableError(self._text(subject, f"broke the response off after {count} rows: {reason}"))

    def content(self, body: bytes) -> Any:
        """Return the value of a JSON body with exact numbers; None if it is not JSON."""
        try:
            return read_json(body)
        except ValueError:
            return None

    def safe(self, text: str) -> str:
        """Return a text with the password masked, in plain text and in the encoding of the header."""
        user, password = self.settings.user, self.settings.password
        secrets = [password, self.settings.tls.key_password]
        if user is not None and password is not None:
            secrets.append(b64encode(f"{user}:{password}".encode()).decode())
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def _text(self, subject: str, message: str) -> str:
        return self.safe(f"{self.settings.label}, {subject}: {message}")

    def _broken_advice(self) -> str:
        advice = "look at its log, and whether the url has the right scheme, http or https, for its port"
        if self.settings.http == "2":
            advice += "; it or a proxy in between may not speak HTTP/2: try http='1.1'"
        return advice


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; numbers with a point become decimals, since floats would not be exact."""
    return json.loads(text, parse_float=Decimal)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _connection_advice(error: Exception) -> str:
    if isinstance(error.__context__, ssl.SSLError) or "SSL" in str(error):
        return "check whether it speaks https at that port, and the certificates in `tls`"
    return "check that it runs, its host and port"


def _error_class(status: int, message: str) -> type[KsqlError]:
    is_unready = status in UNREADY or (status == 500 and any(text in message for text in UNREADY_TEXTS))
    return KsqlUnavailableError if is_unready else KsqlError


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _excerpt(body: bytes) -> str:
    if not body:
        return "an empty body"
    text = " ".join(body.decode("utf-8", "replace").split())
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
