"""One request under check: what was found, what follows from it, and what is noted."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from proxy.api import Exchange, Outcome, ProxyError, Response

from .audit import Row, words
from .refusal import not_seen, refused, unavailable
from .verdict import About, Decision, Matter, Stage, Verdict

if TYPE_CHECKING:
    from . import Moderation

HEADER = "x_framegate_moderation"
TOLD = ("flagged", "unseen", "unchecked")  # decisions of which an answer that went on tells


class Check:
    """All judgements of one exchange: of the question, of what is said on its socket, of the pictures in its answer."""

    __slots__ = ("_about", "_exchange", "_noted", "_plugin", "_told", "hash")

    def __init__(self, plugin: Moderation, exchange: Exchange, about: About) -> None:
        self._plugin = plugin
        self._exchange = exchange
        self._about = about
        self.hash = b""  # of what was asked
        self._noted: set[str] = set()  # what could not be seen, and was let through
        self._told: dict[Decision, tuple[str, ...]] = {}  # what the client is to hear of an answer that went on

    async def passes(self, matter: Matter) -> None:
        """Judge it, and note what came of it. Raises ProxyError where it must not go on."""
        plugin = self._plugin
        key = await plugin.judge.key(matter)
        if matter.stage == "input":
            self.hash = key
        if matter.unseen and plugin.mode == "block" and plugin.on_unseen == "refuse":
            verdict = Verdict(unseen=matter.unseen)  # no need to ask anybody
        else:
            verdict = await plugin.judge.judge(key, matter, self._about)
            if matter.unseen:
                verdict = verdict.beside(matter.unseen)
        if not (verdict.categories or verdict.failed or verdict.unseen):
            return
        decision, error = await self._decided(key, matter.stage, verdict)
        if decision != "unseen" or self._news(verdict):
            self._note(key, matter, decision, verdict)
        if error is not None and plugin.mode == "block":
            raise error
        if decision in TOLD:
            self._told[decision] = (*self._told.get(decision, ()), *verdict.categories)

    async def _decided(self, key: bytes, stage: Stage, verdict: Verdict) -> tuple[Decision, ProxyError | None]:
        """What is done, the gravest first: what was found, what nobody could judge, what nobody could see."""
        plugin = self._plugin
        lenient = plugin.mode != "block"
        if verdict.categories:
            if await plugin.audit.allowed(key):
                return "allowed", None
            return "flagged" if lenient else "blocked", refused(stage, verdict.categories)
        if verdict.failed:
            if lenient or plugin.on_error == "allow":
                return "unchecked", None
            return "blocked", unavailable(stage)
        if lenient or plugin.on_unseen == "allow":
            return "unseen", None
        return "blocked", not_seen(stage, verdict.unseen)

    async def aside(self, matter: Matter, lent: AsyncExitStack) -> None:
        """Judge it for the audit alone. The request may end meanwhile; what it lent is given back after."""
        async with lent:
            await self.passes(matter)

    def _news(self, verdict: Verdict) -> bool:
        """Whether anything of a sort can't be seen for the first time: speech comes in fifty pieces a second."""
        sorts = {one.what for one in verdict.unseen}
        news = not sorts <= self._noted
        self._noted |= sorts
        return news

    def marked(self, response: Response) -> Response:
        """The answer, which says where it went on although something was found, or not looked at."""
        if not self._told or response.socket is not None:
            return response
        told = [f"{word}={'|'.join(named)}" if named else word for word, named in self._told.items()]
        return response.with_headers(**{HEADER: ", ".join(told)})

    def ended(self, outcome: Outcome) -> None:
        """Note what the providers themselves refused."""
        for attempt in outcome.attempts:
            if attempt.failure == "safety" or (attempt.failure is None and (attempt.status or 0) >= 400):
                break
        else:
            if outcome.response is None or outcome.response.reading is None:
                return
        self._plugin.audit.provider(outcome, self._row(self.hash, "input", "provider", Verdict()))

    def _note(self, key: bytes, matter: Matter, decision: Decision, verdict: Verdict) -> None:
        prompt = words(matter) if self._plugin.keep_prompts else None
        self._plugin.audit.note(self._row(key, matter.stage, decision, verdict, prompt))
        self._plugin.services.log.info(
            "moderated",
            id=self._about.id,
            stage=matter.stage,
            decision=decision,
            categories=list(verdict.categories),
            failed=list(verdict.failed),
            unseen=len(verdict.unseen),
        )

    def _row(self, key: bytes, stage: Stage, decision: Decision, verdict: Verdict, prompt: str | None = None) -> Row:
        return Row(self._about, self._exchange.route, key, stage, decision, verdict, prompt=prompt)
