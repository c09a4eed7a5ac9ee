"""What goes wrong in between: each failure says what it is and what to do, and no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kandle.errors import KsqlError, KsqlUnavailableError, OptionsError
from kandle.ksqldb.client import KsqlClient
from kandle.ksqldb.settings import KsqlSettings, TlsSettings
from tests.ksqldb.serving import Asked, Reply, Served, serving
from tests.ksqldb.talking import PATIENT, always, rows, told

HTML = b"<html><body>Sign in</body></html>"
SECRET = "pa55 wörd"
SENT = b64encode(f"me:{SECRET}".encode()).decode()


async def look(client: KsqlClient, served: Served) -> object:
    return await client.info()


async def pull(client: KsqlClient, served: Served) -> object:
    return [row async for row in client.pull(None, "SELECT 1;")]


async def push_in(client: KsqlClient, served: Served) -> object:
    return await client.insert("t", [{"a": 1}])


def error(status: int, code: int, message: str) -> Reply:
    return Reply(status, [json.dumps({"@type": "generic_error", "error_code": code, "message": message}).encode()])


@pytest.mark.parametrize("story", [look, pull, push_in])
@pytest.mark.parametrize(
    ("reply", "kind", "code", "message"),
    [
        (error(401, 40100, "Unauthorized"), KsqlError, 40100, "Unauthorized .*check user and password"),
        (error(403, 40300, "You are forbidden"), KsqlError, 40300, "forbidden .*the user lacks the rights for this"),
        (Reply(401, [HTML], "text/html"), KsqlError, 40100, "HTTP 401 and .*check user and password"),
        (Reply(403, [], None), KsqlError, 40300, "HTTP 403 and an empty body; the user lacks the rights for this"),
        (Reply(404, [HTML], "text/html"), KsqlError, 40400, "HTTP 404 and .*there is no ksqlDB under this url"),
        (Reply(302, [], None), KsqlError, 30200, "redirects are not followed"),
        (Reply(407, [], None), KsqlError, 40700, "a proxy in between asks for credentials"),
        (Reply(418, [b"\xff"], None), KsqlError, 41800, "this is not a response of ksqlDB; check the url"),
        (Reply(502, [HTML], "text/html"), KsqlUnavailableError, 50200, "HTTP 502"),
        (error(503, 50302, "Server initializing"), KsqlUnavailableError, 50302, "Server initializing"),
        (error(500, 50000, "An internal error"), KsqlError, 50000, "An internal error"),
    ],
)
def test_a_bad_status_is_an_error_that_says_what_to_do(story: Any, reply: Reply, kind: type, code: int, message: str) -> None:
    with pytest.raises(KsqlError, match=message) as caught:
        told(always(reply), story)
    assert type(caught.value) is kind and caught.value.code == code


def test_a_body_that_is_not_json_is_shown() -> None:
    with pytest.raises(KsqlError, match="answers with '<html><body>Sign in</body></html>' instead of JSON; check that the url"):
        told(always(Reply(200, [HTML], "text/html")), look)


@pytest.mark.parametrize("story", [look, pull, push_in])
def test_a_server_that_cannot_be_reached_is_unavailable(story: Any) -> None:
    async def tell() -> None:
        async with serving(always(None)) as served:
            url = served.url
        async with KsqlClient(KsqlSettings(url, **PATIENT, attempts=1)) as client:
            await story(client, served)

    with pytest.raises(KsqlUnavailableError, match=r"cannot be reached: .*check that it runs, its host and port") as caught:
        asyncio.run(tell())
    assert caught.value.__cause__ is not None


def test_statements_are_sent_again_while_no_connection_is_made() -> None:
    async def tell() -> list[str]:
        async with serving(always(None)) as before:
            port = before.port
        async with KsqlClient(KsqlSettings(f"http://127.0.0.1:{port}", **PATIENT, attempts=20)) as client:
            asking = asyncio.create_task(client.execute("CREATE ...;"))
            await asyncio.sleep(0.25)
            assert not asking.done()
            server = await asyncio.start_server(_empty, "127.0.0.1", port)
            async with server:
                assert await asking == ()
        return []

    asyncio.run(tell())


async def _empty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"}")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("story", [pull, push_in])
def test_a_proxy_that_speaks_http_1_only_is_named(story: Any) -> None:
    with pytest.raises(KsqlUnavailableError, match=r"a proxy in between may not speak HTTP/2: try http='1.1'"):
        told(always(rows()), story, versions=("1.1",))
    assert told(always(rows()), pull, versions=("1.1",), http="1.1") == []


def test_inserts_by_http_1_say_that_they_need_http_2() -> None:
    def server(asked: Asked) -> Reply:
        return error(400, 40004, "This endpoint is only available when using HTTP2") if asked.version == "1.1" else Reply()

    with pytest.raises(KsqlError, match=r"inserts of rows need HTTP/2: set http='2'") as caught:
        told(server, push_in, http="1.1")
    assert caught.value.code == 40004


def test_inserts_by_http_2_that_a_proxy_turns_into_http_1_name_the_proxy() -> None:
    reply = error(400, 40004, "This endpoint is only available when using HTTP2")
    with pytest.raises(KsqlError, match=r"a proxy in between speaks HTTP/1\.1 only: give the url of ksqlDB itself$") as caught:
        told(always(reply), push_in)
    assert "set http='2'" not in str(caught.value)


@pytest.mark.parametrize("story", [look, pull, push_in])
def test_the_password_is_sent_but_never_shown(story: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The server gives back what it was sent, as some proxies do."""

    def server(asked: Asked) -> Reply:
        assert asked.headers["authorization"] == f"Basic {SENT}"
        return error(400, 40000, f"bad header: Basic {SENT} of me:{SECRET}")

    caplog.set_level(logging.DEBUG)
    with pytest.raises(KsqlError, match=r"bad header: Basic \*\*\* of me:\*\*\*") as caught:
        told(server, story, user="me", password=SECRET)
    shown = caplog.text + repr(caught.value) + repr(KsqlSettings("http://h", "me", SECRET))
    assert SECRET not in shown and SENT not in shown


@pytest.mark.parametrize("story", [look, pull, push_in])
def test_the_environment_sends_no_request_elsewhere(story: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxies that it names do not speak HTTP/2 to a server, and passwords that it holds are not for this one."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    def server(asked: Asked) -> Reply:
        assert "authorization" not in asked.headers
        return error(400, 40000, "you have come to the right place")

    with pytest.raises(KsqlError, match="the right place"):
        told(server, story)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://me:secret@host"}, "the url of ksqlDB contains a user"),
        ({"url": "host:8088"}, "'host:8088' is not a valid url of ksqlDB"),
        ({"url": "ftp://host"}, "is not a valid url of ksqlDB"),
        ({"url": "http://host", "http": "3"}, "write one of 1.1, 2"),
        ({"url": "http://host", "user": "me"}, "`password` of ksqlDB is missing"),
        ({"url": "http://host", "attempts": 0}, "write 1 or more"),
        ({"url": "http://host", "timeout": "soon"}, "'soon' is not a duration"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        KsqlSettings(**settings)
    assert "secret" not in str(caught.value)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kandle tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(encoded)
    return paths


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return _certificate(tmp_path_factory.mktemp("tls"))


def by_tls(
    certificate: tuple[Path, Path], tls: TlsSettings, offered: list[str], *, asks_for_one: bool = False, http: Any = "2"
) -> str:
    """The version that a query comes with at a server that offers these by TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate[0])
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(offered)
    context.verify_mode = ssl.CERT_REQUIRED if asks_for_one else ssl.CERT_NONE

    async def tell() -> str:
        async with (
            serving(always(rows()), tls=context) as served,
            KsqlClient(KsqlSettings(served.url, tls=tls, http=http, **PATIENT, attempts=1)) as client,
        ):
            await pull(client, served)
            return served.asked[0].version

    return asyncio.run(tell())


def test_the_http_version_is_negotiated_by_tls(certificate: tuple[Path, Path]) -> None:
    trusted = TlsSettings(ca=certificate[0])
    assert by_tls(certificate, trusted, ["h2", "http/1.1"]) == "2"
    assert by_tls(certificate, trusted, ["http/1.1"]) == "1.1"
    assert by_tls(certificate, trusted, ["h2", "http/1.1"], http="1.1") == "1.1"


def test_certificates_are_checked_on_both_sides(certificate: tuple[Path, Path]) -> None:
    assert by_tls(certificate, TlsSettings(verify=False), ["h2"]) == "2"
    assert by_tls(certificate, TlsSettings(*certificate[:1], *certificate), ["h2"], asks_for_one=True) == "2"
    with pytest.raises(KsqlUnavailableError, match=r"cannot be reached: .*CERTIFICATE_VERIFY_FAILED.*the certificates in `tls`"):
        by_tls(certificate, TlsSettings(), ["h2"])
    with pytest.raises(KsqlUnavailableError):
        by_tls(certificate, TlsSettings(ca=certificate[0]), ["h2"], asks_for_one=True)


def test_an_invalid_file_of_certificates_is_named(tmp_path: Path) -> None:
    async def tell() -> None:
        async with KsqlClient(KsqlSettings("https://host", tls=TlsSettings(ca=tmp_path / "none.pem"))):
            pass

    with pytest.raises(OptionsError, match=r"certificates for ksqlDB cannot be used \(.*none.pem\)"):
        asyncio.run(tell())


@pytest.mark.parametrize("story", [look, pull])
def test_the_wrong_scheme_is_named(story: Any, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def tell(scheme: str, tls: ssl.SSLContext | None) -> None:
        async with (
            serving(always(rows()), tls=tls) as served,
            KsqlClient(KsqlSettings(f"{scheme}://127.0.0.1:{served.port}", **PATIENT, attempts=1)) as client,
        ):
            await story(client, served)

    with pytest.raises(KsqlUnavailableError, match="check whether it speaks https at that port"):
        asyncio.run(tell("https", None))
    with pytest.raises(KsqlUnavailableError, match="whether the url has the right scheme"):
        asyncio.run(tell("http", context))
