"""A proxy or certificate bundle that is set up wrongly is named, and never taken for a network that is down."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kaggle_manager.errors import AuthError, ConfigError, KaggleManagerError
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.kaggle.download import download_file
from kaggle_manager.platforms.kaggle.network_settings import NETWORK_VARIABLES
from kaggle_manager.platforms.kaggle.retry import RetryPolicy
from kaggle_manager.platforms.kaggle.transport import NotSent, Transport
from kaggle_manager.platforms.platform import OutputFile

ENDPOINT = "https://kaggle.invalid"
SECRET = "pa55"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts a proxy whose answer to CONNECT is what it is given; returns its address."""
    servers: list[socket.socket] = []

    def start(answer: Callable[[socket.socket], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(65536)
                    answer(peer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://user:{SECRET}@127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in servers:
        server.close()


def ask() -> KaggleManagerError:
    """The error of one question to a Kaggle behind whatever the environment says."""
    credentials = Credentials(kind="token", username="alice", secret="KGAT_x", source="a test")
    with pytest.raises(KaggleManagerError) as caught:
        KaggleClient(credentials, endpoint=ENDPOINT, retry=RetryPolicy(attempts=1)).whoami()
    assert SECRET not in str(caught.value)
    return caught.value


def answers(status: str) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, b"", b"\x00\xff no certificate", b"-----BEGIN CERTIFICATE-----\nAA=="])
def test_a_certificate_bundle_that_cannot_be_used_is_named(
    variable: str, content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv(variable, str(bundle))
    error = ask()
    assert isinstance(error, ConfigError)
    assert not error.retryable
    assert f"{variable} names {bundle}" in error.message


@pytest.mark.parametrize(
    "address",
    [
        f"http://user:{SECRET}#ss@127.0.0.1:1",
        f"http://user:{SECRET}/ss@127.0.0.1:1",
        f"http://user:{SECRET}?ss@127.0.0.1:1",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "htp://proxy:3128",
        "http://",
        "://",
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_is_no_address_is_named_without_its_password(
    variable: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, address)
    error = ask()
    assert isinstance(error, ConfigError)
    assert variable in error.message


def test_a_socks_proxy_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    error = ask()
    assert isinstance(error, ConfigError)
    assert "requests[socks]" in error.next_step


def test_a_proxy_that_wants_a_password_is_a_matter_of_credentials(
    proxy: Callable[[Callable[[socket.socket], None]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy(answers("407 Proxy Authentication Required")))
    error = ask()
    assert isinstance(error, AuthError)
    assert "HTTPS_PROXY" in error.message


def test_a_proxy_that_forbids_kaggle_is_not_tried_again(
    proxy: Callable[[Callable[[socket.socket], None]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy(answers("403 Forbidden")))
    error = ask()
    assert isinstance(error, ConfigError)
    assert "refuses connections to kaggle.invalid (403)" in error.message


def test_a_proxy_that_is_down_or_overloaded_passes(
    proxy: Callable[[Callable[[socket.socket], None]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    error = ask()
    assert isinstance(error, NotSent)
    assert "through the proxy from HTTPS_PROXY" in error.message
    monkeypatch.setenv("HTTPS_PROXY", proxy(answers("503 Service Unavailable")))
    assert ask().retryable


def test_a_certificate_that_does_not_verify_is_a_setting(
    proxy: Callable[[Callable[[socket.socket], None]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    def interpose(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(peer, server_side=True)

    monkeypatch.setenv("HTTPS_PROXY", proxy(interpose))
    error = ask()
    assert isinstance(error, ConfigError)
    assert "certificate of kaggle.invalid could not be verified" in error.message
    assert "REQUESTS_CA_BUNDLE" in error.next_step


def test_a_bundle_that_vanishes_during_a_run_is_no_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials(kind="token", username="alice", secret="KGAT_x", source="a test")
    client = KaggleClient(credentials, endpoint=ENDPOINT, retry=RetryPolicy(attempts=1))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    file = OutputFile("model.zip", "https://files.invalid/model.zip")
    with pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"):
        download_file(client, file, tmp_path / "model.zip", size=None, sha256=None)


def test_this_machine_is_reached_whatever_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "htp://nowhere")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nope/ca.pem")
    Transport("http://127.0.0.1:9", (1.0, 1.0)).close()


@pytest.mark.parametrize(
    "endpoint",
    ["", "api.kaggle.com", "htps://api.kaggle.com", "https://", "https://[::1", "https://x:port", "ftp://127.0.0.1"],
)
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        Transport(endpoint, (1.0, 1.0))


def self_signed(folder: Path) -> Path:
    """A PEM file with a key and its own certificate."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a company proxy")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "proxy.pem"
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + certificate.public_bytes(encoding)
    )
    return path
