"""The certificate and the key of the public port: what is refused, in words; what is doubted; what never shows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.__main__ import main
from proxy.core.config import Config, ConfigError, load
from proxy.workers.channel import pack, unpack

from ..wire.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Config]:
    def read(server: str, *, listen: str = "127.0.0.1:8443") -> Config:
        path = tmp_path / "framegate.toml"
        path.write_text(
            f'[server]\nlisten = "{listen}"\n{server}\n[upstreams.a]\nbase_url = "https://a.example/v1"\n'
            '[[routes]]\nmatch = "* /v1/*"\nchain = []\n'
        )
        return load(path, {})

    return read


@pytest.fixture
def said(read: Callable[..., Config]) -> Callable[..., str]:
    def said(certificate: Path, key: Path) -> str:
        with pytest.raises(ConfigError) as refused:
            read(f'certificate = "{certificate}"\nprivate_key = "{key}"')
        (complaint,) = map(str, refused.value.complaints)
        return complaint

    return said


def parted(pem: Path) -> tuple[Path, Path]:
    """The certificate and the key of that file, each in one of its own."""
    data = pem.read_bytes()
    start = data.index(b"-----BEGIN CERTIFICATE")
    certificate, key = pem.with_suffix(".crt"), pem.with_suffix(".key")
    key.write_bytes(data[:start])
    certificate.write_bytes(data[start:])
    return certificate, key


def test_a_pair_is_read_into_memory_and_makes_the_port_one_of_https(
    read: Callable[..., Config], authority: Authority
) -> None:
    certificate, key = parted(authority.pair("localhost"))
    config = read(f'certificate = "{certificate.name}"\nprivate_key = "{key.name}"')
    assert config.server.certificate == certificate and config.server.private_key == key
    assert config.scheme == "https" and config.server.public_url == "https://127.0.0.1:8443"
    assert config.certificate_doubt is None
    certificate.unlink()
    key.unlink()
    assert config.pair is not None
    config.pair.context()
    assert unpack(pack(config)) == config


def test_without_one_nothing_is_different(read: Callable[..., Config]) -> None:
    config = read("")
    assert (config.pair, config.scheme, config.certificate_doubt) == (None, "http", None)
    assert config.server.public_url == "http://127.0.0.1:8443"


def test_the_key_shows_nowhere(read: Callable[..., Config], authority: Authority) -> None:
    pem = authority.pair("localhost")
    config = read(f'certificate = "{pem}"\nprivate_key = "{pem}"')
    key = pem.read_text().splitlines()[1]
    assert key not in repr(config) and "BEGIN" not in repr(config) and key.encode() in pack(config)


def test_both_or_none(read: Callable[..., Config], authority: Authority) -> None:
    pem = authority.pair("localhost")
    with pytest.raises(ConfigError, match=r"server\.private_key: missing; it and certificate are given together"):
        read(f'certificate = "{pem}"')
    with pytest.raises(ConfigError, match=r"server\.certificate: missing; it and private_key are given together"):
        read(f'private_key = "{pem}"')
    with pytest.raises(ConfigError, match=r"server\.certificate: expected a path, found the number 5") as refused:
        read(f'certificate = 5\nprivate_key = "{pem}"')
    assert len(refused.value.complaints) == 1


def test_a_unix_socket_speaks_no_tls(read: Callable[..., Config], authority: Authority) -> None:
    pem = authority.pair("localhost")
    with pytest.raises(ConfigError, match=r"server\.certificate: TLS is not spoken on a Unix socket"):
        read(f'certificate = "{pem}"\nprivate_key = "{pem}"', listen="unix:s")


def test_says_what_is_wrong_with_the_files(said: Callable[..., str], authority: Authority, tmp_path: Path) -> None:
    certificate, key = parted(authority.pair("localhost"))
    _, other = parted(authority.pair("localhost"))
    gone = tmp_path / "gone.pem"
    assert said(gone, key) == f"server.certificate: {gone} can't be read: No such file or directory"
    assert said(certificate, tmp_path) == f"server.private_key: {tmp_path} can't be read: Is a directory"
    assert said(Path("/dev/zero"), key) == "server.certificate: /dev/zero is too long to be one"
    none = tmp_path / "none.pem"
    none.write_bytes(b"\xff\x00 no PEM")
    assert said(none, key) == f"server.certificate: {none} holds no certificate in PEM form that can be read"
    assert said(key, key).endswith("holds no certificate in PEM form that can be read")
    assert said(certificate, none) == f"server.private_key: {none} holds no private key in PEM form"
    assert said(certificate, certificate).endswith("holds no private key in PEM form")
    none.write_text(key.read_text().replace("MI", "!!"))
    assert said(certificate, none) == f"server.private_key: {none} holds no private key that can be read"
    text = f"server.private_key: {other} does not belong to the certificate in {certificate}"
    assert said(certificate, other) == text


def test_a_key_of_another_sort_does_not_belong_either(
    said: Callable[..., str], authority: Authority, tmp_path: Path
) -> None:
    certificate, _ = parted(authority.pair("localhost"))
    key = tmp_path / "rsa.pem"
    made = rsa.generate_private_key(65537, 2048)
    key.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    assert said(certificate, key).endswith(f"{key} does not belong to the certificate in {certificate}")


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_refused_and_nobody_asked_for_a_password(
    said: Callable[..., str], authority: Authority, form: PrivateFormat
) -> None:
    certificate, key = parted(authority.pair("localhost"))
    plain = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(plain.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"hunter2-hunter2")))
    assert said(certificate, key) == (
        f"server.private_key: {key} is encrypted, and nobody is there to give its password; "
        "write it out without one: openssl pkey -in ENCRYPTED -out PLAIN"
    )


def test_a_certificate_that_clients_will_refuse_is_served_with_a_warning(
    read: Callable[..., Config], authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pem = authority.pair("localhost", expired=True)
    config = read(f'certificate = "{pem}"\nprivate_key = "{pem}"')
    (certificate,) = x509.load_pem_x509_certificates(pem.read_bytes())
    text = f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; clients refuse it"
    assert config.certificate_doubt == text
    assert main(["check", str(tmp_path / "framegate.toml")]) == 0
    assert f"warning: {text}\n" in capsys.readouterr().out
    assert config.pair is not None
    early = config.pair.doubt(datetime.now(UTC) - timedelta(days=30))
    assert early is not None and "is not valid before" in early
