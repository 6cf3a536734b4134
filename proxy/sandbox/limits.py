"""Rate limits like OpenAI's: requests and images a minute, and how many at once, for each key."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .clock import Time
from .refusal import too_many

# A key that has not been seen for long has full buckets, so it can be forgotten.
_MOST_KEYS = 10_000


@dataclass(slots=True)
class _Bucket:
    """Holds a minute's worth and fills evenly, so that `reset` is the time until it is full, as OpenAI says it."""

    size: int
    level: float
    at: float

    def fill(self, now: float) -> None:
        self.level = min(float(self.size), self.level + (now - self.at) * self.size / 60)
        self.at = now

    def wait(self, wanted: int) -> float:
        """Seconds until that much is there; what never fits waits for a full bucket."""
        return max(0.0, (min(wanted, self.size) - self.level) * 60 / self.size)

    def reset(self) -> float:
        return (self.size - self.level) * 60 / self.size


@dataclass(slots=True)
class _Account:
    requests: _Bucket | None
    images: _Bucket | None
    running: int = 0


@dataclass(slots=True)
class Place:
    """What one request took; given back when it ends."""

    account: _Account
    pictures: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def leave(self, *, drawn: bool) -> None:
        """It is over; pictures that were not drawn are given back."""
        self.account.running -= 1
        if not drawn and self.account.images is not None:
            bucket = self.account.images
            bucket.level = min(float(bucket.size), bucket.level + self.pictures)


class Limits:
    """All accounts, by key. Without any limit nothing is kept."""

    def __init__(
        self, time: Time, *, rpm: int | None = None, ipm: int | None = None, concurrent: int | None = None
    ) -> None:
        self._time = time
        self._rpm, self._ipm, self._concurrent = rpm, ipm, concurrent
        self._accounts: dict[str, _Account] = {}
        self.on = not (rpm is ipm is concurrent is None)
        self.counts_images = ipm is not None

    def enter(self, key: str, pictures: int, model: str | None) -> Place:
        """Lets a request in, or raises the refusal that OpenAI would send. A refused one counts for nothing."""
        account = self._account(key)
        shown = model or "default"
        if self._concurrent is not None and account.running >= self._concurrent:
            headers = {"retry-after": "1", **_headers(account)}
            figures = (self._concurrent, account.running, 1)
            raise too_many("requests", "concurrent requests", shown, figures, "1s", headers)
        for bucket, wanted, meter, unit in (
            (account.requests, 1, "requests", "requests per min (RPM)"),
            (account.images, pictures, "input-images", "input-images per min"),
        ):
            if bucket is None or bucket.level >= wanted:
                continue
            wait = bucket.wait(wanted)
            headers = {"retry-after": str(max(1, math.ceil(wait))), **_headers(account)}
            figures = (bucket.size, bucket.size - max(0, math.floor(bucket.level)), wanted)
            raise too_many(meter, unit, shown, figures, duration(wait), headers)
        account.running += 1
        if account.requests is not None:
            account.requests.level -= 1
        if account.images is not None:
            account.images.level -= pictures
        return Place(account, pictures, _headers(account))

    def _account(self, key: str) -> _Account:
        now = self._time.now()
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= _MOST_KEYS:
                self._forget(now)
            account = self._accounts[key] = _Account(_bucket(self._rpm, now), _bucket(self._ipm, now))
        for bucket in (account.requests, account.images):
            if bucket is not None:
                bucket.fill(now)
        return account

    def _forget(self, now: float) -> None:
        for key, account in list(self._accounts.items()):
            buckets = [bucket for bucket in (account.requests, account.images) if bucket is not None]
            if not account.running and all(now - bucket.at >= 60 for bucket in buckets):
                del self._accounts[key]


def _bucket(size: int | None, now: float) -> _Bucket | None:
    return None if size is None else _Bucket(size, float(size), now)


def _headers(account: _Account) -> dict[str, str]:
    found = {}
    for name, bucket in (("requests", account.requests), ("input-images", account.images)):
        if bucket is not None:
            found[f"x-ratelimit-limit-{name}"] = str(bucket.size)
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level)))
            found[f"x-ratelimit-reset-{name}"] = duration(bucket.reset())
    return found


def duration(seconds: float) -> str:
    """A time as OpenAI writes it: 467ms, 1s, 8.64s, 6m0s."""
    thousandths = math.ceil(round(seconds * 1000, 3))
    if thousandths < 1000:
        return f"{thousandths}ms"
    minutes, rest = divmod(thousandths, 60_000)
    text = f"{rest / 1000:g}s"
    return f"{minutes}m{text}" if minutes else text
