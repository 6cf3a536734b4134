"""One place on the bench: how often a credential of an upstream failed at one sort of work, and until when it sits."""

from __future__ import annotations

from random import uniform
from time import perf_counter

ROW = 5  # failures one after another that open a breaker
LEAST, SHARE = 10, 0.5  # or this share of failures among at least so many calls ...
SPAN, SLOTS = 30.0, 10  # ... in so many seconds, counted in so many pieces
FIRST: dict[str, float] = {"rate_limit": 1.0, "balance": 600.0, "auth": 600.0, "breaker": 5.0}  # seconds; then doubled
MOST: dict[str, float] = {"rate_limit": 60.0, "balance": 3600.0, "auth": 3600.0, "breaker": 60.0}
JITTER = 0.1  # of a pause, at its end, so that processes don't come back all at once
NEWS = 0.2  # of a pause: by how much longer it must be to be worth telling
PROBE = 60.0  # seconds after which a probe of which nothing was heard is given up


class Place:
    """The state of one (upstream, credential, capability). Times are seconds of the house's clock."""

    __slots__ = (
        "_bad",
        "_good",
        "_slot",
        "back",
        "claimed",
        "firm",
        "probed",
        "probing",
        "reason",
        "row",
        "sat",
        "times",
        "until",
        "why",
    )

    def __init__(self) -> None:
        self.row = 0  # failures since the last good answer
        self.until = 0.0  # it sits until then
        self.back = 0.0  # and comes back a little later, so that not all do at once
        self.sat = 0.0  # when it sat down, as attempts have it (perf_counter)
        self.probed = 0.0  # when its probe was sent, likewise
        self.why = ""  # why it sits, or sat last and has not shown since that it can do better
        self.firm = False
        self.times = 0  # pauses one after another, all for this:
        self.reason = ""
        self.claimed = False  # this process may send the probe
        self.probing = 0.0  # until when the probe that is under way may take
        self._slot = 0
        self._good = [0] * SLOTS
        self._bad = [0] * SLOTS

    @property
    def open(self) -> bool:
        """Whether it may be asked as if nothing had been."""
        return not self.why

    def half_open(self, now: float) -> bool:
        """Whether its pause is over and one probe may go there."""
        return now >= self.back and now >= self.probing

    @property
    def clean(self) -> bool:
        """Whether there is nothing to remember."""
        return not self.why and not self.row and not any(self._bad)

    def good(self, now: float, began: float) -> bool:
        """A good answer to what was asked then (perf_counter); whether that brought it back from the bench."""
        self._turn(now)
        self._good[self._slot % SLOTS] += 1
        self.row = 0
        early = 0.0 < began < self.sat  # what was under way when it sat down says nothing of how it is now
        if not self.why or early or (now < self.until and self.firm):
            return False
        self.why, self.until, self.back, self.times, self.probing, self.firm = "", 0.0, 0.0, 0, 0.0, False
        self._good, self._bad = [0] * SLOTS, [0] * SLOTS
        return True

    def bad(self, now: float) -> bool:
        """A failure; whether the breaker is to open now."""
        self._turn(now)
        self._bad[self._slot % SLOTS] += 1
        self.row += 1
        if self.why:
            return now >= self.back  # the probe failed; stragglers from before the pause count for nothing
        bad = sum(self._bad)
        return self.row >= ROW or (bad + sum(self._good) >= LEAST and bad >= SHARE * (bad + sum(self._good)))

    def sit(self, now: float, why: str, *, told: float | None = None) -> bool:
        """Sit down for as long as was told, else longer each time; whether that is longer than it sat already."""
        times = self.times if why == self.reason else 0
        seconds = told if told is not None else min(MOST[why], FIRST[why] * 2**times)
        if self.why and now < self.back and (told is None or now + seconds <= self.until + NEWS * seconds):
            return False  # what was under way when it sat down tells nothing new
        self.times = min(times + 1, 16)
        self.reason = why
        self.put(now, now + seconds, why, firm=told is not None or why in ("balance", "auth"))
        return True

    def put(self, now: float, until: float, why: str, *, firm: bool) -> None:
        """Sit until then."""
        self.sat, self.until, self.why, self.firm = perf_counter(), until, why, firm
        self.probing, self.claimed = 0.0, False
        self.back = max(self.back, until + uniform(0, JITTER * max(0.0, until - now)))

    def probe(self, now: float) -> None:
        """One goes there to find out."""
        self.probing, self.probed = now + PROBE, perf_counter()

    def _turn(self, now: float) -> None:
        """Forget what is older than the span."""
        slot = int(now * SLOTS / SPAN)
        for passed in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            self._good[passed % SLOTS] = self._bad[passed % SLOTS] = 0
        self._slot = slot
