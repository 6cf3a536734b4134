"""What one request holds of its limits, until it has ended and is known for what it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from proxy.api import (
    Ahead,
    Attempt,
    Billed,
    Bounds,
    Demand,
    Outcome,
    Reading,
    Resource,
    Response,
    UpstreamError,
    Used,
    used,
)

if TYPE_CHECKING:
    from . import Quota

SMALL = 2**16  # bytes of an error that are looked at
MOST = 2**53 - 1
Charge = Literal["nothing", "request", "reserved", "used"]


class Held:
    """One claim. It is settled once, at the exchange's end."""

    __slots__ = ("_billed", "_drawn", "_id", "_local", "_policy", "_reserved", "_response", "bounds", "demand")

    def __init__(
        self,
        policy: Quota,
        id: str,
        bounds: Bounds,
        reserved: Sequence[int],
        demand: Demand | None,
        *,
        local: bool,
        drawn: bool,
    ) -> None:
        self.bounds = bounds
        self.demand = demand  # None: nothing is counted for which one would have to look
        self._policy = policy
        self._id = id
        self._reserved = reserved
        self._local = local  # it was taken in this process's memory
        self._drawn = drawn  # must a good answer hold a picture?
        self._response: Response | None = None
        self._billed: Billed | None = None  # what an error that nobody else judged may have cost

    async def heard(self, response: Response) -> Response:
        """An answer has come: keep it in sight."""
        if response.status >= 500 or response.status == 408:
            response = await self._judged(response)
        elif self.demand is not None and response.reading is not None:
            response.reading.follow()
        self._response = response
        return response

    async def _judged(self, response: Response) -> Response:
        """Where no failover has said what an error is: only its body tells a service's own word from a gateway's."""
        attempt = response.attempt
        if attempt is None or attempt.billed is not None:
            return response
        self._billed = "maybe"  # until it has been seen
        body = response.body.now()
        if body is None:
            ahead, size = Ahead(response.body), 0
            try:
                while size < SMALL and (more := await ahead.pull()):
                    size += more
            except BaseException:
                await ahead.aclose()
                raise
            body, response = ahead.held, response.but(body=ahead)
        failures = self._policy.services.failures
        failure = failures.classify(
            response.status, response.headers, body[:SMALL], sent=True, paid=True, upstream=attempt.upstream
        )
        self._billed = "no" if failure is None else failure.billed
        return response

    def settle(self, outcome: Outcome) -> None:
        """Give back what was not used."""
        self._policy.services.quotas.settle(self._id, self.bounds, self._used(outcome), local=self._local)

    def _used(self, outcome: Outcome) -> Sequence[int]:
        """What stays counted, line by line. Nobody runs any more, so nothing concurrent does."""
        charge = self._charge(outcome)
        if charge == "used" and self.demand is not None:
            return self._by_answer(self.demand)
        if charge == "nothing":
            return (0,) * len(self._reserved)
        taken = []
        for resource, reserved in zip(self.bounds.resources, self._reserved, strict=True):
            stays = resource == "requests" if charge == "request" else resource != "concurrent"
            taken.append(reserved if stays else 0)
        return taken

    def _by_answer(self, wanted: Demand) -> Sequence[int]:
        response, services = self._response, self._policy.services
        assert response is not None
        found: Used = used(response.reading, response.status, wanted)
        services.means.learn(wanted, found)
        by_resource: dict[Resource, int | None] = {
            "requests": 1,
            "concurrent": 0,
            "images": found.images,
            "tokens": found.tokens,
        }
        if "budget" in self.bounds.resources:
            by_resource["budget"] = services.prices.cost(wanted.model or "", found) if found.shares else 0
        taken = []
        for resource, reserved in zip(self.bounds.resources, self._reserved, strict=True):
            amount = by_resource[resource]
            taken.append(reserved if amount is None else min(MOST, amount))
        return taken

    # --- what it was

    def _charge(self, outcome: Outcome) -> Charge:
        sent = [attempt for attempt in outcome.attempts if attempt.sent]
        response = self._response
        if response is None or response.status >= 400:
            return self._failed(outcome, sent)
        if not sent or response.status == 304:  # answered without any upstream, or with nothing that costs
            return "request"
        if response.status >= 300:
            return "nothing"
        return self._answered(outcome, response)

    def _failed(self, outcome: Outcome, sent: Sequence[Attempt]) -> Charge:
        """By what the calls of upstreams may have cost. One that is known to have been answered was paid for."""
        doubt = self._billed == "maybe"
        for attempt in sent:
            billed = attempt.billed or (None if self._response is None else self._billed) or _guess(attempt, outcome)
            if billed == "yes":
                return "reserved"
            doubt = doubt or billed == "maybe"
        return self._in_doubt if doubt else "nothing"

    @property
    def _in_doubt(self) -> Charge:
        return "reserved" if self._policy.charge_ambiguous else "nothing"

    def _answered(self, outcome: Outcome, response: Response) -> Charge:
        """A 2xx, or a socket. It may still have broken off, or hold an error in the place of what was asked for."""
        reading = response.reading
        if response.attempt is not None and response.attempt.withheld:
            return "reserved"  # it was drawn, and what it has cost nobody was let see
        if self.demand is None or reading is None or outcome.left or _worked(reading):
            return "used"
        if isinstance(outcome.error, UpstreamError) or not reading.ended:
            return self._in_doubt
        attempt = response.attempt
        failure = self._policy.services.failures.of_reading(
            response.headers,
            paid=True,
            image=self._drawn,
            verdict="error" if reading.error is not None else "none" if reading.complete else "unknown",
            error=reading.error,
            finish=reading.finish,
            upstream=None if attempt is None else attempt.upstream,
        )
        if failure is None or failure.billed == "yes":
            return "used"
        return self._in_doubt if failure.billed == "maybe" else "nothing"


def _worked(reading: Reading) -> bool:
    """Whether an answer shows that something was done for it."""
    return bool(reading.usage or reading.tool_usage or reading.pictures or reading.partials)


def _guess(attempt: Attempt, outcome: Outcome) -> Billed:
    """What a call may have cost that nobody has judged."""
    if attempt.status is not None:
        if attempt.status < 400:
            return "yes"  # the answer was there, and was lost on its way out
        return "maybe" if attempt.status >= 500 or attempt.status == 408 else "no"
    if attempt.error == "cancelled" and outcome.left:
        return "yes"  # else whoever hangs up in time would ask for nothing
    if attempt.error in (None, "cancelled", "timeout", "broken"):
        return "maybe"
    return "no"  # the request's own body came to no end
