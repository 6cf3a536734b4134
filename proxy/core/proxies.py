"""The HTTP proxy through which an upstream is reached: the one a config names, or the environment's."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urlsplit

from ..model.values import Secret

WANTED = '"env", "none", or a URL such as "http://proxy.example:3128"'


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and what it wants to hear of who we are."""

    host: str
    port: int
    credential: Secret | None = None  # what goes into Proxy-Authorization

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """A proxy from "http://USER:PASSWORD@HOST:PORT". Raises ValueError, which never repeats the text."""
        if re.search(r"[\x00-\x20\x7f\\]", text):
            raise ValueError("it holds a blank, a backslash or a control character")
        try:
            url = urlsplit(text if "://" in text else f"http://{text}")
            port = url.port
        except ValueError:
            # Without its cause, which quotes what may be half a password.
            raise ValueError("its host or port can't be read") from None
        if url.scheme != "http":
            raise ValueError("only http:// proxies are spoken to; the upstream's TLS goes through them untouched")
        if not url.hostname:
            raise ValueError("it names no host")
        credential = None
        if url.username is not None:
            pair = unquote_to_bytes(url.username) + b":" + unquote_to_bytes(url.password or "")
            credential = Secret(f"Basic {base64.b64encode(pair).decode()}")
        return cls(url.hostname, port or 80, credential)


def find(setting: Secret, base_url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy on the way to that upstream; None: there is none. Raises ValueError, which names the setting at fault.

    What is on this machine is never looked for through a proxy of the environment's.
    """
    text = setting.reveal()
    if text == "none":
        return None
    if text != "env":
        return Proxy.parse(text)
    url = urlsplit(base_url)
    host = (url.hostname or "").rstrip(".")
    port = url.port or (443 if url.scheme == "https" else 80)
    if _here(host) or _bypassed(host, port, _value(environ, "no")[1]):
        return None
    for name in (url.scheme, "all"):
        variable, text = _value(environ, name)
        if text:
            try:
                return Proxy.parse(text)
            except ValueError as exc:
                raise ValueError(f"the proxy that {variable} names can't be used: {exc}") from exc
    return None


def _value(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable and what it says; the lower-case one goes first, as with curl and urllib."""
    lower, upper = f"{name}_proxy", f"{name}_proxy".upper()
    variable = lower if lower in environ else upper
    return variable, environ.get(variable, "").strip()


def _here(host: str) -> bool:
    address = _ip(host)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def _bypassed(host: str, port: int, names: str) -> bool:
    """Whether NO_PROXY lists it: a name and what is under it, with a port or without, an address, a network, or `*`."""
    address = _ip(host)
    for name in re.split(r"[,\s]+", names.lower()):
        bare, colon, last = name.rpartition(":")
        if colon and last.isdecimal() and (not bare.count(":") or bare.endswith("]")):
            if int(last) != port:
                continue
            name = bare
        name = name.strip("[]").removeprefix("*.").strip(".")
        if not name:
            continue
        if name in ("*", host) or (address is None and host.endswith(f".{name}")):
            return True
        if address is not None and _within(address, name):
            return True
    return False


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
