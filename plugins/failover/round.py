"""One request's way through the upstreams: whom to ask next, how long to wait, when to stop."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.api import (
    CALLER,
    STOPPED,
    Attempt,
    BodyConsumed,
    Exchange,
    Forward,
    ProxyError,
    Request,
    Response,
)

from . import ending
from .hedge import race
from .judge import Tried, judge
from .patience import after, backoff
from .question import Question

if TYPE_CHECKING:
    from . import Failover


class Begun(NamedTuple):
    """A call that was made already."""

    upstream: str
    response: Response | None
    error: ProxyError | None
    at: float  # seconds of the house's clock


class Round:
    """One request's way through the upstreams."""

    def __init__(
        self, policy: Failover, exchange: Exchange, question: Question, forward: Forward, *, once: bool = False
    ) -> None:
        self._policy = policy
        self._exchange = exchange
        self._question = question
        self._forward = forward
        self._clock = policy.services.clock
        self._upstreams = policy.services.upstreams
        self._health = policy.services.upstreams.health
        self._tried: list[Tried] = []
        self._order: Sequence[str] = ()
        self._cooling: set[str] = set()  # those that were passed over
        self._once = once  # the body can't be sent twice

    async def run(self, request: Request, begun: Begun | None = None) -> Response:
        """Ask until one has answered, or until asking on would be useless or do harm."""
        self._order = self._able()
        handed: Response | None = None
        try:
            if begun is not None:
                tried = await self._ask(begun.upstream, request, begun)
                if tried.failure is None and tried.response is not None:
                    return tried.response
                self._tried.append(tried)
            while (name := await self._choose()) is not None:
                if name != self._order[0]:
                    self._passed_over(name)
                for tried in await self._call(name, request):
                    if tried.failure is None and tried.response is not None:
                        return tried.response
                    self._tried.append(tried)
            handed = ending.end(self._tried, self._question, self._soonest())
            return handed
        finally:
            for tried in self._tried:
                if tried.response is not None and (handed is None or tried.response.body is not handed.body):
                    await tried.response.aclose()

    # --- whom

    def _able(self) -> Sequence[str]:
        """Those that can do what is asked, in the order of asking; who can't is named in the exchange's attempts."""
        policy, question = self._policy, self._question
        if question.pinned:
            return policy.order.names[:1]
        caller = self._exchange.get(CALLER)
        able = []
        why = ""
        for name in policy.order.of(question.capability, caller.id if caller is not None else ""):
            serves = self._upstreams.serves(name, question.operation)
            if serves is True:
                able.append(name)
            else:
                why = str(serves)
                self._exchange.attempts.append(Attempt(name, error=f"skipped-{serves}"))
        if not able:
            raise ending.nobody(question, why)
        return able

    def _allowed(self) -> Sequence[str]:
        """Those that may be asked after what the last one did."""
        if not self._tried:
            return self._order
        last, policy, paid = self._tried[-1], self._policy, self._question.paid
        assert last.failure is not None
        following = last.failure.next
        slow = policy.replay_within is not None and last.seconds > policy.replay_within
        if following == "no":
            return self._stop(last.failure.kind)
        if paid and last.failure.kind == "failure" and slow:
            return self._stop("replay_within")
        if following == "on_ambiguous" and paid and policy.on_ambiguous == "stop":
            return self._stop("ambiguous")
        if following == "on_result_missing" and policy.on_result_missing == "stop":
            return self._stop("result_missing")
        if following == "on_safety":
            others = [name for name in self._order if name in policy.on_safety and name not in self._names()]
            return others or self._stop("safety")
        return self._order

    def _names(self) -> set[str]:
        return {tried.upstream for tried in self._tried}

    def _stop(self, why: str) -> tuple[str, ...]:
        self._exchange[STOPPED] = why
        return ()

    async def _choose(self) -> str | None:
        """The next to ask, having waited where that is worth it; None to stop."""
        if self._once and self._tried:
            self._stop("body-not-kept")
            return None
        if len(self._tried) >= self._policy.attempts:
            self._stop("attempts")
            return None
        allowed = self._allowed()
        waited = False
        while allowed:
            if (name := self._usable(allowed)) is not None:
                return name
            wait, name = self._soonest_of(allowed)
            if name is None:
                self._stop("nobody-left")
                return None
            if wait > self._policy.max_wait or self._clock.now() + wait >= self._exchange.deadline:
                self._stop("wait" if wait > self._policy.max_wait else "deadline")
                return None
            if name in self._names() and not waited and not self._policy.budget.allow():
                self._stop("retry-budget")
                return None
            if wait > 0:
                waited = True
                await self._clock.sleep(wait)
            if self._health.enter(name, self._question.capability, last=True):
                return name
        return None

    def _usable(self, allowed: Sequence[str]) -> str | None:
        """The first that was not asked yet and may be; or the last one again, by another of its credentials."""
        capability, tried = self._question.capability, self._names()
        if self._tried:
            last = self._tried[-1]
            of_credential = last.failure is not None and last.failure.bench in ("auth", "balance", "retry_after")
            another = of_credential and last.attempt is not None and self._health.another(last.attempt, capability)
            if another and last.upstream in allowed and self._health.enter(last.upstream, capability):
                return last.upstream
        for name in allowed:
            if name not in tried and self._health.enter(name, capability):
                return name
        return None

    def _soonest_of(self, allowed: Sequence[str]) -> tuple[float, str | None]:
        """Who can be asked soonest when nobody is free: seconds and name."""
        found: tuple[float, str | None] = (float("inf"), None)
        for name in allowed:
            standing = self._health.standing(name, self._question.capability)
            wait = standing.wait if standing.firm else 0.0  # a guess must not keep the last one out
            calls = [tried for tried in self._tried if tried.upstream == name]
            if calls:
                again = _again(calls)
                if again is None:
                    continue
                wait = max(wait, again)
            if wait < found[0]:
                found = (wait, name)
        return found

    def _soonest(self) -> float:
        """Seconds until one of them may be asked again, for the client's `retry-after`; 0 if that is now."""
        waits = [self._health.standing(name, self._question.capability) for name in self._order]
        return min((standing.wait for standing in waits), default=0.0)

    def _passed_over(self, chosen: str) -> None:
        """Write down who would have been asked before, and why it was not."""
        for name in self._order:
            if name == chosen:
                return
            if name not in self._names() and name not in self._cooling:
                self._cooling.add(name)
                why = self._health.standing(name, self._question.capability).why
                self._exchange.attempts.append(Attempt(name, error=f"cooling-{why}" if why else "cooling"))

    # --- asking

    async def _call(self, name: str, request: Request) -> list[Tried]:
        """Ask one; and where that is allowed and it lets one wait, another beside it."""
        hedge = self._policy.hedge
        if hedge is None or self._question.paid or len(self._order) < 2 or self._once:
            return [await self._ask(name, request)]

        def another() -> Coroutine[Any, Any, Tried] | None:
            if len(self._tried) + 2 > self._policy.attempts or not self._policy.budget.allow():
                return None
            other = self._usable([one for one in self._order if one != name])
            return None if other is None else self._ask(other, request)

        return await race(self._ask(name, request), self._clock.sleep(hedge), another)

    async def _ask(self, name: str, request: Request, begun: Begun | None = None) -> Tried:
        exchange, question, health = self._exchange, self._question, self._health
        failures = self._policy.services.failures
        before = 0 if begun is not None else len(exchange.attempts)
        began = begun.at if begun is not None else self._clock.now()
        response: Response | None = None
        tried: Tried | None = None
        try:
            if begun is not None and begun.error is not None:
                response = begun.response
                raise begun.error
            response = begun.response if begun is not None else None
            if response is None:
                response = await self._forward(request.to(name))
            tried = await judge(name, response, question, failures, self._policy.cooldown_max)
        except BodyConsumed:
            if not self._tried:
                raise
            self._once = True  # it has outgrown what is kept: what the last call came to is the end
            return self._tried.pop()
        except ProxyError as error:
            failure = failures.of_error(error, paid=question.paid)
            if failure is None:
                raise
            tried = Tried(name, None, failure, error)
        finally:
            attempt = next((one for one in exchange.attempts[before:] if one.upstream == name), None)
            if tried is None and attempt is not None:
                health.left(attempt, question.capability)
        tried.seconds = self._clock.now() - began
        if attempt is not None:
            if attempt.queued is not None and not attempt.queued.refused:
                tried.seconds -= attempt.queued.seconds
            self._record(tried, attempt)
        if tried.failure is not None and tried.failure.kind != "safety" and response is not None:
            await response.aclose()  # a refusal in a model's own words may be what the client is to hear
        return tried

    def _record(self, tried: Tried, attempt: Attempt) -> None:
        """Tell the attempt what it came to, and the upstream's health."""
        failure, capability = tried.failure, self._question.capability
        if failure is None:
            attempt.billed = self._question.billed
            self._health.passed(attempt, capability, tried.seconds)
            return
        attempt.failure, attempt.billed, attempt.ended = failure.kind, failure.billed, perf_counter()
        if tried.response is not None:
            attempt.bytes = len(tried.response.body.now() or b"")
        if failure.bench == "none" and attempt.status is None:
            self._health.left(attempt, capability)
        elif failure.bench == "none":
            self._health.passed(attempt, capability, tried.seconds)
        else:
            self._health.failed(
                attempt,
                capability,
                failure.bench,
                retry_after=failure.retry_after,
                cooldown_max=self._policy.cooldown_max,
            )
        if failure.kind == "safety" and failure.next == "on_safety" and self._policy.on_safety:
            log = self._policy.services.log
            log.warning("upstream_refused", id=self._exchange.id, upstream=tried.upstream, reason=failure.told.reason)


def _again(calls: Sequence[Tried]) -> float | None:
    """Seconds after which that upstream may be asked once more; None for never."""
    failure = calls[-1].failure
    if failure is None or failure.again == "never" or (failure.again == "once" and len(calls) > 1):
        return None
    if failure.again == "after" and failure.retry_after is not None:
        return after(failure.retry_after)
    return backoff(len(calls))
