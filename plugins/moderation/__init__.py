"""Moderation: what a model is about to read is judged before it leaves, pictures like words, and nothing is skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Literal

from proxy.api import (
    CALLER,
    Caller,
    Duration,
    Exchange,
    Forward,
    Operation,
    Plugin,
    Request,
    Response,
    Services,
    Several,
    operation,
)

from .again import Again, Past
from .asking import OpenAI
from .audit import Audit
from .cache import Cache
from .check import Check
from .hook import Hook
from .judge import Judge
from .matter import looked, matter
from .outputs import Outputs
from .sockets import watched
from .verdict import About, Backend, Scores

DAY = 86_400.0


class Moderation(Plugin):
    """Judges what is asked before it goes on, and if wanted what is drawn before it is delivered."""

    upstream: Several[str] = ()  # asked by OpenAI's /v1/moderations
    model: str = "omni-moderation-latest"
    hook: str | None = None  # an upstream that judges by our own contract
    rules: Several[Path] = ()  # files of local rules
    ask: Literal["all", "first"] = "all"
    thresholds: Mapping[str, float] = field(default_factory=dict)  # without one a backend's own word counts
    mode: Literal["block", "flag", "shadow"] = "block"
    timing: Literal["before", "parallel"] = "before"
    outputs: bool = False  # what was drawn is judged, too
    on_unseen: Literal["refuse", "allow"] = "refuse"  # what can't be looked at
    on_error: Literal["refuse", "allow"] = "refuse"  # where nobody can say
    timeout: Duration = 5.0  # for one judgement
    cache: Duration = 600.0  # for which a verdict is believed; 0: not at all
    retention: Duration = 90 * DAY  # of what is noted
    keep_prompts: bool = False  # what was found wanting is kept, sealed

    inside = ("keys", "idempotency", "quota")

    def __post_init__(self) -> None:
        if not (self.upstream or self.hook or self.rules):
            raise ValueError('nobody is there to judge; name an upstream = "openai", rules = "rules.toml" or a hook')
        for category, threshold in self.thresholds.items():
            if not threshold >= 0:
                raise ValueError(f"the threshold for '{category}' is a score from 0 to 1; more than 1 is never reached")
        if self.timeout <= 0 or self.retention <= 0:
            raise ValueError("timeout and retention are longer than nothing")
        if self.rules:
            from .rules import check  # with tables of characters that nobody needs who has none

            check(self.rules)
        if self.mode == "shadow" and self.outputs:
            raise ValueError('outputs are held until they are judged, and shadow holds nothing; take mode = "flag"')

    @property
    def reads(self) -> Collection[str]:
        """Pictures in answers, where these are judged."""
        return ("images",) if self.outputs else ()

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Open rules and audit. Raises what stands in the way of judging at all."""
        self.services = services
        self.audit = Audit(services, mode=self.mode, retention=self.retention, keep_prompts=self.keep_prompts)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.audit.aclose)
            digest = await services.vault.digester("moderation")
            rules = None
            if self.rules:
                from .rules import Rules

                rules = Rules(self.rules, services.clock, services.log)
                await stack.enter_async_context(rules.running())
            backends = self._backends(services, digest)
            if any(backend.sees for backend in backends) and not services.sights.there:
                services.log.warning("moderation_sees_no_pictures", why="pip install 'framegate[images]'")
            self.judge = Judge(
                backends,
                rules=rules,
                ask=self.ask,
                thresholds=self.thresholds,
                timeout=self.timeout,
                cache=Cache(services.clock, seconds=self.cache) if self.cache else None,
                digest=digest,
            )
            self._again = Again(Cache(services.clock, seconds=self.cache), digest) if self.cache else None
            yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Judge what is asked, hand it on or refuse it, and watch what comes back if that is wanted."""
        caller = exchange.get(CALLER)
        same = None if self._again is None else self._again.key(request, exchange.prefix)
        if same is not None and self._again is not None and (past := self._again.get(same)) is not None:
            about = _about(exchange.id, caller, past)
            if await self.judge.passed(past.hash, about):
                check = self._check(exchange, about)
                check.hash = past.hash
                return await forward(request)  # to a POST no socket comes
        asked = await operation(request, prefix=exchange.prefix)
        if asked.kind == "moderation":
            return await forward(request)  # whoever asks that wants a verdict, not a refusal
        owner = None if caller is None else caller.id
        check = self._check(exchange, _about(exchange.id, caller, asked))
        what = await matter(request, asked, self.services, owner)
        if not what:
            response = await forward(request)
        elif self.mode == "shadow":
            lent = AsyncExitStack()
            await lent.enter_async_context(request.body.lent())
            self.services.spawn(check.aside(what, lent), name="moderation-shadow")
            response = await forward(request)
        elif self.timing == "parallel":
            response = await exchange.hold(forward, request, until=check.passes(what))
        else:
            await check.passes(what)
            response = await forward(request)
        if same is not None and self._again is not None and check.hash and not (what.pictures or what.unseen):
            self._again.put(same, check.hash, asked)
        if response.socket is not None:
            return watched(response, asked.kind, check.passes, self.services, owner)
        return check.marked(response)

    def _check(self, exchange: Exchange, about: About) -> Check:
        check = Check(self, exchange, about)
        exchange.on_finish(check.ended)
        if self.outputs:
            views = partial(looked, self.services.sights)
            remote = self.services.remote
            exchange.inspect(Outputs(exchange, check.passes, views, remote, kind=about.kind))
        return check

    def _backends(self, services: Services, digest: Callable[[bytes], bytes]) -> list[Backend]:
        backends: list[Backend] = []
        for name in self.upstream:
            known = Cache[bytes, Scores](services.clock, seconds=self.cache) if self.cache else None
            backends.append(OpenAI(name, services, model=self.model, timeout=self.timeout, digest=digest, cache=known))
        if self.hook is not None:
            backends.append(Hook(self.hook, services, timeout=self.timeout))
        return backends


def _about(id: str, caller: Caller | None, asked: Operation | Past) -> About:
    if caller is None:
        return About(id, kind=asked.kind, model=asked.model)
    return About(id, caller.id, caller.group, asked.kind, asked.model)
