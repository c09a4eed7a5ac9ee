"""Errors of the connection to a ksqlDB and of its answers, as errors of kandle with advice."""

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
UNKNOWN_COMMAND = 40400
SHOWN = 300
"""Characters of a text of the server that a message shows."""

NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
BROKEN = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, h2.exceptions.ProtocolError)
UNREADY = (502, 503, 504)
UNREADY_TEXTS = ("Could not write the statement", "Timeout while waiting for command topic consumer")
"""Messages of a busy command runner, which it sends as errors of the server (HTTP 500)."""

ADVICE = {
    401: "check user and password",
    403: "the user may not do that, or a proxy lets nobody through; check user, password and the server's access rules",
    404: "there is no ksqlDB under this url, or none of a version that kandle knows; check scheme, host, port and path",
    405: "what answers is no ksqlDB, or none of a version that kandle knows; check the url",
    407: "a proxy in between wants credentials; give the url of ksqlDB itself",
    429: "the server has too much to do; ask again later",
}
ADVICE_BY_CODE = {
    HTTP2_ONLY: "inserts of rows need HTTP/2: set http='2', and if it is, a proxy in between speaks HTTP/1.1 only, "
    "so give the url of ksqlDB itself",
    40002: "send SELECT to pull or push, not to execute",
}


def was_never_sent(error: KsqlError) -> bool:
    """Return whether no connection was made, so that the server knows nothing of the request."""
    return isinstance(error.__cause__, NEVER_SENT)


@dataclass(frozen=True, slots=True)
class Failures:
    """Makes errors of kandle of those of one server."""

    settings: KsqlSettings

    @contextmanager
    def translated(self, label: str) -> Iterator[None]:
        """Raise KsqlUnavailableError for errors of the connection; `label` says what was asked for."""
        try:
            yield
        except NEVER_SENT as error:
            message = f"cannot be reached: {_cause(error)}; {_connection_advice(error)}"
            raise KsqlUnavailableError(self._text(label, message)) from error
        except (httpx2.TimeoutException, TimeoutError) as error:
            message = f"gave no answer within {self.settings.timeout}; look at its log, or give it more with `timeout`"
            raise KsqlUnavailableError(self._text(label, message)) from error
        except BROKEN as error:
            raise KsqlUnavailableError(self._text(label, f"broke the connection: {_cause(error)}; {self._advice()}")) from error

    def refusal(self, label: str, status: int, body: bytes) -> KsqlError:
        """Return the error for an answer with a bad status."""
        said = self.content(body)
        if isinstance(said, dict) and "message" in said:
            return self._refused(label, status, said)
        if 300 <= status < 400:
            advice = "it sends elsewhere, which is not followed; give the url of ksqlDB itself"
        else:
            advice = ADVICE.get(status, "that is no answer of a ksqlDB; check the url and what stands in between")
        return _kind(status, "")(self._text(label, f"answers with HTTP {status} and {_shown(body)}; {advice}"), status * 100)

    def _refused(self, label: str, status: int, said: dict[str, Any]) -> KsqlError:
        code, message = _number(said.get("error_code")), str(said["message"]).strip()
        text = f"refuses: {message} (code {code})" if code else f"refuses: {message}"
        advice = ADVICE_BY_CODE.get(code or 0) or (ADVICE.get(status) if status in (401, 403, 407, 429) else None)
        text += f"; {advice}" if advice else ""
        done = said.get("entities")
        text += f"; {len(done)} statements before it were carried out" if done else ""
        statement = said.get("statementText")
        return _kind(status, message)(self._text(label, text), code, None if statement is None else self.safe(str(statement)))

    def error_row(self, label: str, said: dict[str, Any]) -> KsqlError:
        """Return the error that the server has sent in the place of a row."""
        return self._refused(label, 200, {"message": "no reason given", **said})

    def nonsense(self, label: str, wanted: str, body: bytes) -> KsqlError:
        """Return the error for an answer of another kind than expected."""
        advice = "check that the url is one of a ksqlDB and what stands in between"
        return KsqlError(self._text(label, f"answers with {_shown(body)} where {wanted} is due; {advice}"))

    def cut(self, label: str, count: int, said: str) -> KsqlUnavailableError:
        """Return the error for an answer that ends too early."""
        return KsqlUnavailableError(self._text(label, f"broke the answer off after {count} rows: {said}"))

    def content(self, body: bytes) -> Any:
        """Return the content of a JSON text with exact numbers; None if it is not JSON."""
        try:
            return read_json(body)
        except ValueError:
            return None

    def safe(self, text: str) -> str:
        """Return a text without the password, plain or as it is sent."""
        user, password = self.settings.user, self.settings.password
        secrets = [password, self.settings.tls.key_password]
        if user is not None and password is not None:
            secrets.append(b64encode(f"{user}:{password}".encode()).decode())
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text

    def _text(self, label: str, said: str) -> str:
        return self.safe(f"{self.settings.place}, {label}: {said}")

    def _advice(self) -> str:
        advice = "look at its log, and whether the url has the right scheme, http or https, for its port"
        if self.settings.http == "2":
            advice += "; it or a proxy in between may not speak HTTP/2: try http='1.1'"
        return advice


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; numbers with a point are decimals, since floats would not be exact."""
    return json.loads(text, parse_float=Decimal)


def _cause(error: Exception) -> str:
    return str(error) or type(error).__name__


def _connection_advice(error: Exception) -> str:
    if isinstance(error.__context__, ssl.SSLError) or "SSL" in str(error):
        return "check whether it speaks https at that port, and the certificates in `tls`"
    return "check that it runs, its host and port"


def _kind(status: int, message: str) -> type[KsqlError]:
    is_unready = status in UNREADY or (status == 500 and any(text in message for text in UNREADY_TEXTS))
    return KsqlUnavailableError if is_unready else KsqlError


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _shown(body: bytes) -> str:
    if not body:
        return "nothing"
    text = " ".join(body.decode("utf-8", "replace").split())
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
