"""A certificate and its private key as they were read: the same in every process, whatever the files say later."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from ..model.values import Secret

LONGEST = 2**20  # bytes of a file; a chain of certificates has some thousands
PRIVATE = re.compile(r"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")
# What OpenSSL calls the key of another certificate; the last where that one has a key of another sort.
OTHERS = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


class BadPair(Exception):
    """The two can't be used; `setting` is the one to blame."""

    def __init__(self, setting: str, text: str) -> None:
        super().__init__(text)
        self.setting = setting


class _Encrypted(Exception):
    """The key wants a password."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate, with those that vouch for it behind it, and the key that belongs to it; both PEM."""

    certificate: bytes = field(repr=False)
    private_key: Secret

    @classmethod
    def read(cls, certificate: Path, private_key: Path) -> Pair:
        """The pair in these files, once it has been tried. Raises BadPair, with words."""
        pair = cls(_bytes("certificate", certificate), Secret(_bytes("private_key", private_key).decode("latin-1")))
        try:
            pair.context()
        except _Encrypted as exc:
            text = f"{private_key} is encrypted, and nobody is there to give its password; write it out without one: "
            raise BadPair("private_key", f"{text}openssl pkey -in ENCRYPTED -out PLAIN") from exc
        except OSError as exc:
            raise _why(pair, certificate, private_key, exc) from exc
        return pair

    def context(self) -> ssl.SSLContext:
        """What a listener shakes hands with. Raises OSError, of which ssl.SSLError is one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Python's own ciphers are all forward-secret and authenticated or better; there is nothing to add.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION  # which costs us ten times what it costs the client
        context.set_alpn_protocols(["http/1.1"])
        with _named(self.certificate) as certificate, _named(self.private_key.reveal().encode("latin-1")) as key:
            context.load_cert_chain(certificate, key, password=_refuse)
        return context

    def doubt(self, now: datetime | None = None) -> str | None:
        """Why clients will not believe it, as far as its dates say; None when they say nothing against it."""
        from cryptography import x509  # at home only where a certificate is: it takes a while to load

        now = now or datetime.now(UTC)
        try:
            first = x509.load_pem_x509_certificates(self.certificate)[0]
        except ValueError:  # OpenSSL took it, and decides
            return None
        if now > first.not_valid_after_utc:
            return f"the certificate expired on {first.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; clients refuse it"
        if now < first.not_valid_before_utc:
            text = f"the certificate is not valid before {first.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            return f"{text}; clients refuse it until then"
        return None


def _why(pair: Pair, certificate: Path, private_key: Path, exc: OSError) -> BadPair:
    """OpenSSL says of most faults no more than that there is one; so ask it about each file alone."""
    try:
        text = pair.certificate.decode("ascii", "ignore")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return BadPair("certificate", f"{certificate} holds no certificate in PEM form that can be read")
    if not PRIVATE.search(pair.private_key.reveal()):
        return BadPair("private_key", f"{private_key} holds no private key in PEM form")
    if not isinstance(exc, ssl.SSLError):
        return BadPair("certificate", f"{certificate} can't be tried: {exc.strerror or exc}")
    if exc.reason in OTHERS:
        return BadPair("private_key", f"{private_key} does not belong to the certificate in {certificate}")
    if not exc.reason:
        return BadPair("private_key", f"{private_key} holds no private key that can be read")
    reason = exc.reason.replace("_", " ").lower()
    return BadPair("certificate", f"OpenSSL refuses {certificate} with its key: {reason}")


def _bytes(setting: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except (OSError, ValueError) as exc:
        raise BadPair(setting, f"{path} can't be read: {getattr(exc, 'strerror', None) or exc}") from exc
    if len(data) > LONGEST:
        raise BadPair(setting, f"{path} is too long to be one")
    return data


@contextmanager
def _named(data: bytes) -> Iterator[str]:
    """A name for bytes in memory: Python's ssl takes files alone, and the key must not come to lie in another one."""
    number = os.memfd_create("framegate")
    try:
        with os.fdopen(number, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def _refuse() -> NoReturn:
    raise _Encrypted  # without this OpenSSL would ask whoever sits at the terminal
