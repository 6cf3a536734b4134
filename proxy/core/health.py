"""The health of all upstreams: who is left alone, and how long each takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from ..model.health import Standing
from .bench import Place
from .sharing import Key, Sharing

if TYPE_CHECKING:
    from ..model.exchange import Attempt
    from ..model.failure import Bench
    from ..model.health import Capability
    from ..model.services import Clock, Log
    from ..model.store import Store

ALL = "*"  # a dead key is dead for all sorts of work
PLACES = 10_000  # beyond it, those that mean nothing are forgotten
PRIOR = 1.0  # seconds that an answer is thought to take before there is any
WINDOW = 10.0  # seconds in which an old latency loses two thirds of its weight
HEAVIEST = 0.3  # of one sample's weight: one alone never decides
FREE = Standing(True)


class Speed:
    """How long one upstream takes for one sort of work: a peak EWMA, and how many it has in hand."""

    __slots__ = ("at", "held", "seconds")

    def __init__(self, now: float) -> None:
        self.seconds, self.at, self.held = PRIOR, now, 0

    def took(self, seconds: float, now: float) -> None:
        """A sample: what is slower counts more than what is faster, for a stall shows late."""
        weight = min(HEAVIEST, 1 - math.exp(-max(0.0, now - self.at) / WINDOW) + 0.05)
        if seconds > self.seconds:
            weight = HEAVIEST
        self.seconds += weight * (seconds - self.seconds)
        self.at = now


class Health:
    """Who is left alone, and until when."""

    def __init__(self, store: Store, clock: Clock, log: Log) -> None:
        self._clock, self._log = clock, log
        self._places: dict[Key, Place] = {}
        self._sharing = Sharing(self._places, store, clock, log)
        self._speeds: dict[tuple[str, str], Speed] = {}
        self._pools: dict[str, Sequence[str]] = {}
        self._granted: dict[tuple[str, str], str] = {}  # the credential whose probe was just taken

    def pool(self, upstream: str, credentials: Sequence[str]) -> None:
        """The ids of the credentials that this upstream is asked by in turn."""
        self._pools[upstream] = tuple(credentials)

    @property
    def calm(self) -> bool:
        """Whether nothing is held against anybody."""
        return not self._places

    # --- asking

    def standing(self, upstream: str, capability: Capability, /) -> Standing:
        """How it is now."""
        if not self._places:
            return FREE
        now = self._clock.now()
        found: Standing | None = None
        for credential in self._pools.get(upstream, ("",)):
            standing = self._of(upstream, credential, capability, now)
            if standing.usable:
                return standing
            if found is None or (standing.firm, standing.wait) < (found.firm, found.wait):
                found = standing
        return found or FREE

    def _of(self, upstream: str, credential: str, capability: str, now: float) -> Standing:
        waits: Standing | None = None
        for _, place in self._seats(upstream, credential, capability):
            if place.open or place.half_open(now):
                continue
            wait = max(place.back, place.probing) - now
            if waits is None or wait > waits.wait:
                waits = Standing(False, max(0.0, wait), place.firm, place.why)
        return waits or FREE

    def _seats(self, upstream: str, credential: str, capability: str) -> list[tuple[Key, Place]]:
        """Its place for that sort of work, and the one for all sorts, as far as there are such."""
        keys = ((upstream, credential, capability), (upstream, credential, ALL))
        return [(key, place) for key in keys if (place := self._places.get(key)) is not None]

    def enter(self, upstream: str, capability: Capability, /, *, last: bool = False) -> bool:
        """Whether it may be asked now; then it counts as asked."""
        if self._places and not (self._pick(upstream, capability) is not None or last):
            return False
        self._speed(upstream, capability).held += 1
        return True

    def _pick(self, upstream: str, capability: str) -> str | None:
        """A credential by which it may be asked; of one whose breaker is half open, the probe is taken."""
        now = self._clock.now()
        halves: list[tuple[str, list[tuple[Key, Place]]]] = []
        for credential in self._pools.get(upstream, ("",)):
            seats = [one for one in self._seats(upstream, credential, capability) if not one[1].open]
            if not seats:
                return credential
            if all(place.half_open(now) for _, place in seats):
                halves.append((credential, seats))
        for credential, seats in halves:
            took = [self._probe(key, place, now) for key, place in seats]
            if all(took):
                self._granted[upstream, capability] = credential
                return credential
        return None

    def _probe(self, key: Key, place: Place, now: float) -> bool:
        """Take the probe, if no other process has it. Who has it is asked of the store beforehand, off the way."""
        place.probe(now)
        if self._sharing.alone or place.why != "breaker":
            return True
        if place.claimed:
            place.claimed = False
            return True
        self._sharing.claim(key, place)
        return False

    def choose(self, upstream: str, credentials: Sequence[str], capability: Capability, start: int) -> int:
        """Which of its credentials to ask by: the first from `start` on that may, else the one that may soonest."""
        count = len(credentials)
        if not self._places:
            return start % count
        granted = self._granted.pop((upstream, capability), None)
        if granted in credentials:
            return credentials.index(granted)
        now = self._clock.now()
        best, least = start % count, math.inf
        for step in range(count):
            at = (start + step) % count
            standing = self._of(upstream, credentials[at], capability, now)
            if standing.usable:
                return at
            if standing.wait < least:
                best, least = at, standing.wait
        return best

    def another(self, attempt: Attempt, capability: Capability, /) -> bool:
        """Whether the same upstream may be asked by another of its credentials than in that attempt."""
        pool = self._pools.get(attempt.upstream, ())
        if attempt.credential not in pool:
            return False
        now = self._clock.now()
        return any(
            one != attempt.credential and self._of(attempt.upstream, one, capability, now).usable for one in pool
        )

    # --- hearing

    def passed(self, attempt: Attempt, capability: Capability, seconds: float, /) -> None:
        """It answered, after that long; or what went wrong was not its fault."""
        now = self._clock.now()
        speed = self._speed(attempt.upstream, capability)
        speed.held = max(0, speed.held - 1)
        speed.took(seconds, now)
        if self._places:
            for key, place in self._seats(attempt.upstream, attempt.credential, capability):
                why = place.why
                if place.good(now, attempt.began):
                    self._back(key, why)
                if place.clean:
                    del self._places[key]

    def failed(
        self,
        attempt: Attempt,
        capability: Capability,
        bench: Bench,
        /,
        *,
        retry_after: float | None = None,
        cooldown_max: float = 600.0,
    ) -> None:
        """It failed, and is left alone as that sort of failure asks for."""
        speed = self._speed(attempt.upstream, capability)
        speed.held = max(0, speed.held - 1)
        if bench == "none":
            return
        now = self._clock.now()
        why = "rate_limit" if bench == "retry_after" else bench
        key = (attempt.upstream, attempt.credential, ALL if bench in ("auth", "balance") else capability)
        place = self._places.get(key)
        if place is None:
            self._forget(now)
            place = self._places[key] = Place()
        told = retry_after if retry_after is not None and 0 <= retry_after <= cooldown_max else None
        if why == "breaker":
            if not place.bad(now):
                return
            told = None
        if place.sit(now, why, told=told):
            self._sat(key, place, now)

    def left(self, attempt: Attempt, capability: Capability, /) -> None:
        """Nobody waited for the end: it says nothing of the upstream."""
        speed = self._speed(attempt.upstream, capability)
        speed.held = max(0, speed.held - 1)
        for _, place in self._seats(attempt.upstream, attempt.credential, capability):
            if place.probing and not 0.0 < attempt.began < place.probed:  # else the probe is somebody else's
                place.probing, place.claimed = 0.0, place.why == "breaker"

    def latency(self, upstream: str, capability: Capability, /) -> float:
        """Seconds that an answer may take now."""
        speed = self._speed(upstream, capability)
        return speed.seconds * (speed.held + 1)

    def _speed(self, upstream: str, capability: str) -> Speed:
        speed = self._speeds.get((upstream, capability))
        if speed is None:
            speed = self._speeds[upstream, capability] = Speed(self._clock.now())
        return speed

    def snapshot(self) -> list[dict[str, Any]]:
        """Who is left alone, by which credential, for what, why, and for how many seconds."""
        now = self._clock.now()
        return [
            {
                "upstream": upstream,
                "credential": credential,
                "capability": capability,
                "why": place.why,
                "seconds": round(max(0.0, place.back - now), 1),
            }
            for (upstream, credential, capability), place in self._places.items()
            if place.why
        ]

    # --- telling

    def _sat(self, key: Key, place: Place, now: float) -> None:
        upstream, credential, capability = key
        event = {"balance": "upstream_balance_empty", "auth": "upstream_credential_refused"}.get(place.why)
        details = {"upstream": upstream, "credential": credential, "capability": capability}
        seconds = round(place.until - now, 1)
        if event is not None:
            self._log.error(event, **details, seconds=seconds)
        else:
            self._log.warning("upstream_benched", **details, why=place.why, seconds=seconds)
        self._sharing.sat(key, place, place.until - now)

    def _back(self, key: Key, why: str) -> None:
        upstream, credential, capability = key
        if why != "rate_limit":
            self._log.info("upstream_back", upstream=upstream, credential=credential, capability=capability, why=why)
        self._sharing.back(key)

    def _forget(self, now: float) -> None:
        if len(self._places) >= PLACES:
            for key in [key for key, place in self._places.items() if not place.why or now >= place.back]:
                del self._places[key]

    def sharing(self) -> AbstractAsyncContextManager[None]:
        """While somebody is inside, what other processes found out is taken over within a second."""
        return self._sharing.inside()
