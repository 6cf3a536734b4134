"""All that one running sandbox has: its time, its records, its faults, its limits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from aiohttp import web

from . import SandboxError
from .clock import Clock, Time
from .latency import Latency
from .limits import Limits
from .record import KEPT, Ledger
from .refusal import no_key, wrong_key
from .script import Script


class House:
    """Made from the settings, which are checked here."""

    def __init__(
        self,
        *,
        keys: Sequence[str] = (),
        rpm: int | None = None,
        ipm: int | None = None,
        concurrent: int | None = None,
        latency: float | Literal["real"] | None = None,
        clock: Clock | None = None,
        kept: int = KEPT,
    ) -> None:
        for name, value in (("rpm", rpm), ("ipm", ipm), ("concurrent", concurrent), ("kept", kept)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise SandboxError(f"{name} is a whole number from 1, not {value!r}")
        factor = 1.0 if latency == "real" else latency or 0.0
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor <= 1000:
            raise SandboxError(f'latency is "real" or a factor from 0 to 1000, not {latency!r}')
        if isinstance(keys, str) or not all(isinstance(key, str) and key for key in keys):
            raise SandboxError("keys is a list of keys, none of them empty")
        self.time = Time(clock)
        self.ledger = Ledger(kept)
        self.script = Script()
        self.limits = Limits(self.time, rpm=rpm, ipm=ipm, concurrent=concurrent)
        self.latency = Latency(self.time, factor)
        self._keys = frozenset(_digest(key) for key in keys)

    def authorize(self, request: web.Request) -> str:
        """The request's key, hashed, for whom the limits count; where keys are set, only those get in."""
        if not self._keys and not self.limits.on:
            return ""
        key = _key(request)
        digest = _digest(key)
        if self._keys and digest not in self._keys:
            raise wrong_key(key) if key else no_key()
        return digest


HOUSE = web.AppKey("house", House)


def _key(request: web.Request) -> str:
    given = request.headers.get("Authorization", "")
    scheme, _, key = given.partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    if "api-key" in request.headers:  # Azure's
        return request.headers["api-key"]
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):  # what browsers can send
        if protocol.strip().startswith("openai-insecure-api-key."):
            return protocol.strip().removeprefix("openai-insecure-api-key.")
    return ""


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
