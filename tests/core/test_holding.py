"""Answers that are held until somebody has judged the question; what is refused meanwhile never comes in."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest

from plugins.failover import Failover
from plugins.quota import Quota
from plugins.rehost import Rehost
from proxy.api import CALLER, Exchange, Forward, Plugin, Rejected, Request, Response, UpstreamError
from proxy.testkit import Stage, answer
from tests.images.pictures import png
from tests.plugins.quota.cases import ann, counted, drawn

from .readings import B64

ASK = "POST /v1/images/generations"
QUESTION = {"model": "gpt-image-2", "prompt": "tea"}
IMAGES = '[images]\nurl = "file:state/images"\n'
DRAWN = {"created": 1, "data": [{"b64_json": B64}]}


class Holds(Plugin):
    """Holds the answer until a test has judged."""

    verdict: Callable[[], Awaitable[None]]
    inside = ("quota",)
    reads = ("images",)

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return await exchange.hold(forward, request, until=self._judged())

    async def _judged(self) -> None:
        await self.verdict()


class Inner(Plugin):
    """Stands inside and writes down what gets to it."""

    seen: list[str]

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        try:
            response = await forward(request)
        except BaseException as error:
            self.seen.append(type(error).__name__)
            raise
        self.seen.append(str(response.status))
        return response


class Court:
    """Judges when a test says so."""

    def __init__(self, refusal: BaseException | None = None) -> None:
        self.refusal = refusal
        self.asked = asyncio.Event()
        self.decided = asyncio.Event()
        self.left = False  # it was cancelled

    async def __call__(self) -> None:
        self.asked.set()
        try:
            await self.decided.wait()
        except asyncio.CancelledError:
            self.left = True
            raise
        if self.refusal is not None:
            raise self.refusal


def refusal() -> Rejected:
    return Rejected("No.", type="image_generation_user_error", code="content_policy_violation")


async def rounds(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def kept(stage: Stage) -> list[str]:
    """Names of the files in the folder of pictures that hold anything."""
    folder = stage._folder / "state" / "images"
    return [one.name for one in folder.rglob("*") if one.is_file() and one.stat().st_size > 0]


async def test_an_answer_that_came_waits_for_the_verdict_and_then_goes_on() -> None:
    court, seen = Court(), []
    async with Stage(Holds(court), Inner(seen), upstream=answer(json=DRAWN)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        assert seen == [] and not playing.over
        court.decided.set()
        played = await playing
        assert (played.status, played.json()) == (200, DRAWN)
        assert seen == ["200"] and played.exchange.holding == ()
        assert played.exchange.attempts[0].billed is None and not played.exchange.attempts[0].withheld


async def test_a_verdict_that_came_first_costs_the_answer_no_wait() -> None:
    court, go = Court(), asyncio.Event()
    court.decided.set()
    async with Stage(Holds(court), upstream=answer(json=DRAWN, wait=go)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        go.set()
        assert (await playing).status == 200


async def test_refused_while_upstream_works_the_call_is_cancelled_at_once() -> None:
    court, never, seen = Court(refusal()), asyncio.Event(), []
    async with Stage(Holds(court), Inner(seen), upstream=answer(json=DRAWN, wait=never)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        court.decided.set()
        played = await playing
    assert (played.status, played.error["code"]) == (400, "content_policy_violation")
    assert seen == ["CancelledError"] and len(played.asked) == 1
    attempt = played.exchange.attempts[0]
    assert (attempt.outcome, attempt.sent, attempt.billed) == ("cancelled", True, "maybe")
    assert [(span.layer, span.verdict) for span in played.exchange.spans][-1] == ("holds", "refused")
    assert played.exchange.error.layer == "holds"


@pytest.mark.parametrize("cuts", [(), (30,)])
async def test_refused_after_the_answer_came_it_is_closed_and_nobody_sees_it(cuts: tuple[int, ...]) -> None:
    """The stage fails where the answer is not closed."""
    court, seen = Court(refusal()), []
    async with Stage(Holds(court), Inner(seen), upstream=answer(json=DRAWN, cuts=cuts)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        court.decided.set()
        played = await playing
    assert played.status == 400 and seen in (["Withheld"], ["CancelledError"])
    attempt = played.exchange.attempts[0]
    assert (attempt.outcome, attempt.billed, attempt.withheld) == ("200", "maybe", True)


async def test_refused_at_the_very_moment_at_which_the_answer_comes() -> None:
    """Whoever of the two wakes first, and however many rounds of the loop lie between."""
    for late in range(-6, 7):
        court, go, seen = Court(refusal()), asyncio.Event(), []
        async with Stage(Holds(court), Inner(seen), upstream=answer(json=DRAWN, cuts=(9,), wait=go)) as stage:
            playing = stage.begin(ASK, json=QUESTION)
            await stage.reached()
            await court.asked.wait()
            await rounds()
            first, second = (go, court.decided) if late < 0 else (court.decided, go)
            first.set()
            await rounds(abs(late))
            second.set()
            played = await playing
        assert played.status == 400 and "200" not in seen, late


async def test_nothing_of_a_refused_answer_is_rehosted() -> None:
    court = Court(refusal())
    document = {"data": [{"b64_json": base64.b64encode(png(40)).decode()}]}
    async with Stage(
        Holds(court), Rehost(mode="always"), Failover(), upstream=answer(json=document), settings=IMAGES
    ) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        court.decided.set()
        assert (await playing).status == 400
        assert kept(stage) == []
        court.refusal = None
        assert (await stage.play(ASK, json=QUESTION)).status == 200
        assert len(kept(stage)) == 1


async def test_failover_asks_nobody_else_and_no_upstream_rests_for_it() -> None:
    court = Court(refusal())
    upstream = {"one": answer(json=DRAWN), "two": answer(json=DRAWN)}
    async with Stage(Holds(court), Failover(), upstream=upstream) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        court.decided.set()
        played = await playing
        assert played.status == 400 and [asked.upstream for asked in played.asked] == ["one"]
        assert stage.services.upstreams.health.snapshot() == []


async def test_an_error_is_failed_over_meanwhile_and_the_good_answer_held() -> None:
    court, seen = Court(), []
    upstream = {"one": answer(429, json={"error": {"code": "rate_limit_exceeded"}}), "two": answer(json=DRAWN)}
    async with Stage(Holds(court), Inner(seen), Failover(), upstream=upstream) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached(2)
        await rounds()
        assert seen == []
        court.decided.set()
        played = await playing
    assert played.status == 200 and [asked.upstream for asked in played.asked] == ["one", "two"]


@pytest.mark.parametrize(
    "told", [answer(500, json={"error": {"message": "broken"}}), UpstreamError("nobody is there", sent=False)]
)
async def test_an_error_gets_out_only_when_the_question_has_passed(told: object) -> None:
    for why, status in ((refusal(), 400), (None, None)):
        court = Court(why)
        async with Stage(Holds(court), upstream=told) as stage:
            playing = stage.begin(ASK, json=QUESTION)
            await stage.reached()
            await rounds()
            assert not playing.over
            court.decided.set()
            played = await playing
        assert played.status == (status or (500 if not isinstance(told, UpstreamError) else 502))


async def test_a_hedge_stops_with_it() -> None:
    court, never = Court(refusal()), asyncio.Event()
    upstream = {"one": answer(json=DRAWN, wait=never), "two": answer(json=DRAWN, wait=never)}
    async with Stage(Holds(court), Failover(hedge=1.0), upstream=upstream) as stage:
        playing = stage.begin("POST /v1/embeddings", json={"model": "e", "input": "tea"})
        await stage.reached()
        await rounds()
        stage.clock.turn(2)
        await stage.reached(2)
        court.decided.set()
        played = await playing
    assert played.status == 400
    assert {attempt.outcome for attempt in played.exchange.attempts} == {"cancelled"}


@pytest.mark.parametrize("came", [False, True])
async def test_a_client_that_leaves_takes_the_verdict_along(came: bool) -> None:
    court, never = Court(), asyncio.Event()
    async with Stage(Holds(court), upstream=answer(json=DRAWN, wait=None if came else never)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        playing.leave()
        played = await playing
    assert played.outcome.left and court.left
    assert played.exchange.attempts[0].billed is None  # nobody refused anything: it is for whoever settles to say


async def test_the_deadline_ends_both() -> None:
    court, never = Court(), asyncio.Event()
    async with Stage(Holds(court), upstream=answer(json=DRAWN, wait=never)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        stage.clock.turn(10_000)
        played = await playing
    assert (played.status, played.error["code"]) == (504, "upstream_timeout") and court.left


async def test_a_layer_inside_that_answers_itself_is_held_too() -> None:
    class Answers(Plugin):
        """Answers without any upstream, as a cache does."""

        async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
            return Response(200).with_body(b"from memory")

    for why, status in ((refusal(), 400), (None, 200)):
        court = Court(why)
        async with Stage(Holds(court), Answers()) as stage:
            playing = stage.begin(ASK, json=QUESTION)
            await court.asked.wait()
            await rounds()
            assert not playing.over
            court.decided.set()
            assert (await playing).status == status


async def test_a_verdict_that_crashes_lets_nothing_in_and_is_blamed_on_who_holds() -> None:
    court, seen = Court(RuntimeError("bug")), []
    async with Stage(Holds(court), Inner(seen), upstream=answer(json=DRAWN)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await stage.reached()
        await rounds()
        court.decided.set()
        played = await playing
    assert played.status == 500 and "'holds'" in played.error["message"] and "200" not in seen
    assert isinstance(played.crash, RuntimeError)


async def test_a_verdict_that_is_cancelled_lets_nothing_in() -> None:
    court = Court(asyncio.CancelledError())
    court.decided.set()
    async with Stage(Holds(court), upstream=answer(json=DRAWN)) as stage:
        played = await stage.play(ASK, json=QUESTION)
    assert played.status == 500 and "never came" in played.error["message"]


async def test_two_that_hold_must_both_let_it_in() -> None:
    for one, two, status in ((refusal(), None, 400), (None, refusal(), 400), (None, None, 200)):
        outer, inner = Court(one), Court(two)
        async with Stage(Holds(outer), Holds(inner), upstream=answer(json=DRAWN)) as stage:
            playing = stage.begin(ASK, json=QUESTION)
            await stage.reached()
            await rounds()
            inner.decided.set()
            await rounds()
            assert not playing.over
            outer.decided.set()
            assert (await playing).status == status


async def test_who_forwards_again_after_a_verdict_is_held_anew() -> None:
    courts = [Court(), Court(refusal())]

    class Twice(Holds):
        """Asks two times."""

        async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
            first = await exchange.hold(forward, request, until=courts[0]())
            await first.aclose()
            return await exchange.hold(forward, request, until=courts[1]())

    courts[0].decided.set()
    courts[1].decided.set()
    async with Stage(Twice(Court()), upstream=answer(json=DRAWN)) as stage:
        played = await stage.play(ASK, json=QUESTION)
    assert played.status == 400
    assert len(played.asked) == 1  # refused before anything was sent
    assert [attempt.billed for attempt in played.exchange.attempts] == [None]


@pytest.mark.parametrize(("charge", "counts"), [(True, 3), (False, 0)])
@pytest.mark.parametrize("came", [False, True])
async def test_quota_takes_it_for_what_may_have_been_billed(charge: bool, counts: int, came: bool) -> None:
    court, never = Court(refusal()), asyncio.Event()
    upstream = drawn(3) if came else answer(json=DRAWN, wait=never)
    facts = {CALLER: ann(images="20 / 1m")}
    async with Stage(Quota(charge_ambiguous=charge), Holds(court), Failover(), upstream=upstream, facts=facts) as stage:
        playing = stage.begin(ASK, json=QUESTION | {"n": 3})
        await stage.reached()
        await rounds()
        court.decided.set()
        assert (await playing).status == 400
        assert (await counted(stage))["images"] == counts
