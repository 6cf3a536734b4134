"""Pictures in streams are judged before they go on, and whole events wait behind those that have not passed."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import re
from typing import Literal

import pytest

from plugins.failover import Failover
from plugins.moderation.verdict import Matter
from plugins.rehost import Rehost
from proxy.testkit import Stage, answer, broken
from tests.plugins.rehost.answers import ASK, JSON, SSE, call, event

from .drawings import IMAGES, QUESTION, TALK, completed, cut, drawn, kept, partial, picture, rounds, text, wrong
from .watching import WRONG, Bench, Watches


@pytest.mark.parametrize("step", [1, 11, 10**6])
async def test_of_a_refused_stream_no_byte_of_a_picture_gets_out(step: int) -> None:
    before = b": hold on\n\n" + event(type="image_generation.started", note="x")
    document = before + partial(picture(1)) + partial(picture(2), 1) + completed(wrong(3)) + b"data: [DONE]\n\n"
    bench = Bench()
    upstream = answer(pieces=cut(document, step), headers=SSE)
    async with Stage(Watches(bench), upstream=upstream) as stage:
        played = await stage.play(ASK, json=QUESTION | {"stream": True})
    assert played.status == 200 and played.whole
    assert played.body.startswith(before + b"event: error\ndata: ")
    error = played.events[-1]["error"]
    assert (error["code"], error["type"]) == ("content_policy_violation", "image_generation_user_error")
    assert len(played.events) == 2 and b"iVBOR" not in played.body
    assert played.exchange.attempts[0].withheld and played.exchange.error.code == "content_policy_violation"


async def test_a_stream_waits_from_its_first_picture_on_and_then_goes_on_in_order() -> None:
    bench, go = Bench(waits=True), asyncio.Event()
    first, second = event(type="image_generation.started"), partial(picture(1)) + completed(picture(2))
    upstream = answer(sse=None, pieces=[first, second, go, b"data: [DONE]\n\n"], headers=SSE)
    async with Stage(Watches(bench), upstream=upstream) as stage:
        playing = stage.begin(ASK, json=QUESTION | {"stream": True})
        assert await playing.heard(len(first)) == first
        await bench.begun.wait()
        await rounds()
        assert await playing.heard() == first
        bench.decided.set()
        assert await playing.heard(len(first + second)) == first + second  # though upstream says nothing more
        go.set()
        played = await playing
    assert played.body == first + second + b"data: [DONE]\n\n" and len(bench.seen) == 2


async def test_words_are_not_held_up() -> None:
    go = asyncio.Event()
    half = event(type="response.output_text.delta", delta="hel")
    pieces = [half, b"data: {", go, b'"type":"x"}\n\n']
    async with Stage(Watches(Bench()), upstream=answer(pieces=pieces, headers=SSE)) as stage:
        playing = stage.begin(TALK, json={"model": "gpt-5", "input": "hi", "stream": True})
        assert await playing.heard(len(half)) == half
        await rounds()
        assert await playing.heard() == half  # of an event that is not whole, it is not known what it will be
        go.set()
        assert (await playing).body == half + b'data: {"type":"x"}\n\n'


async def test_partial_pictures_without_a_final_one_are_judged_themselves() -> None:
    for last, status in ((picture(2), "passes"), (wrong(2), "refused")):
        document = partial(picture(1)) + partial(last, 1) + event(type="error", message="no")
        bench = Bench()
        async with Stage(Watches(bench), upstream=answer(body=document, headers=SSE, cuts=(5,))) as stage:
            played = await stage.play(ASK, json=QUESTION | {"stream": True})
        assert len(bench.seen) == 2
        assert (played.body == document) is (status == "passes")
        assert b"iVBOR" not in played.body or status == "passes"


async def test_partial_pictures_of_several_at_once_are_judged_themselves() -> None:
    """Nothing tells whose they are: a bad one may belong to a picture that is still to come."""
    document = partial(picture(1)) + partial(wrong(2)) + completed(picture(3)) + completed(picture(4))
    async with Stage(Watches(Bench()), upstream=answer(body=document, headers=SSE, cuts=(5,))) as stage:
        played = await stage.play(ASK, json=QUESTION | {"stream": True})
    assert b"iVBOR" not in played.body


async def test_when_one_is_refused_nobody_is_asked_about_what_was_under_way() -> None:
    half = completed(picture(2)).rpartition(b",")[0]
    bench = Bench()
    upstream = answer(pieces=[completed(wrong(1)) + half, asyncio.Event()], headers=SSE)
    async with Stage(Watches(bench), upstream=upstream) as stage:
        played = await stage.play(ASK, json=QUESTION | {"stream": True})
        await rounds()
    assert played.whole and [data for _, data in bench.seen] == [wrong(1)]


@pytest.mark.parametrize("behind", [1, 2])
async def test_a_partial_picture_is_not_delivered_because_another_is_good(behind: int) -> None:
    document = partial(wrong(1)) + b"".join([completed(picture(2 + n)) for n in range(behind)])
    async with Stage(Watches(Bench()), upstream=answer(body=document, headers=SSE, cuts=(5,))) as stage:
        played = await stage.play(ASK, json=QUESTION | {"stream": True, "n": behind})
    assert text(wrong(1)).encode() not in played.body and played.body != document


@pytest.mark.parametrize("seed", range(80))
async def test_whatever_comes_whole_events_go_on_and_none_of_a_refused_picture(seed: int) -> None:
    """Events in any order, cut anywhere, judged in any order: what got out is a beginning of what came."""
    rng = random.Random(seed)
    kind = rng.choice(("image", "response"))
    events: list[bytes] = []
    for item in range(rng.randrange(1, 5)):
        word = b"[%d]" % item
        verdict = WRONG if rng.random() < 0.3 else b""
        datas = [picture(item * 9 + n, rng.choice((60, 900))) + word for n in range(rng.randrange(4))]
        final = picture(item, rng.choice((60, 5000))) + word + verdict
        own = []
        if kind == "image":
            own += [partial(data, number) for number, data in enumerate(datas)] + [completed(final)]
        else:
            shown = {
                "item_id": f"i{item}",
                "output_index": item,
                "type": "response.image_generation_call.partial_image",
            }
            own += [event(**shown, partial_image_index=n, partial_image_b64=text(data)) for n, data in enumerate(datas)]
            own.append(
                event(type="response.output_item.done", output_index=item, item=call(text(final), id=f"i{item}"))
            )
        if rng.random() < 0.2:
            own.pop()  # it never came
        if kind == "response" and rng.random() < 0.5:
            for one in own:  # several at once
                events.insert(rng.randrange(len(events) + 1), one)
        else:
            events += own
        events.insert(rng.randrange(len(events) + 1), rng.choice((b": hold on\n\n", event(type="note", text="x" * 70))))
    document = b"".join(events)
    cuts = sorted(rng.randrange(len(document)) for _ in range(rng.choice((0, 2, 40))))
    pieces = [document[a:b] for a, b in itertools.pairwise((0, *cuts, len(document))) if a < b]
    spaced = [one for piece in pieces for one in (piece, Later(rng.randrange(4)))]

    class Slow(Bench):
        async def __call__(self, matter: Matter) -> None:
            await rounds(rng.randrange(30))
            await super().__call__(matter)

    bench = Slow()
    async with Stage(Watches(bench), upstream=answer(pieces=spaced, headers=SSE)) as stage:
        ask = (ASK, QUESTION) if kind == "image" else (TALK, {"model": "gpt-5", "input": "draw"})
        played = await stage.play(ask[0], json=ask[1] | {"stream": True})
    assert played.whole
    body, refused, _ = played.body.partition(b"event: error\n")
    ends = list(itertools.accumulate(map(len, events), initial=0))
    assert document.startswith(body) and len(body) in ends
    assert bool(refused) is (WRONG in b"".join(data for _, data in bench.seen))
    assert refused or body == document
    for word, data in pictures_in(document):
        if WRONG in data:
            assert not any(word == other for other, _ in pictures_in(body))


def pictures_in(document: bytes) -> list[tuple[bytes, bytes]]:
    """Whose each picture is, and its bytes."""
    found = []
    for match in re.finditer(rb'"(?:b64_json|partial_image_b64|result)":"([^"]*)"', document):
        data = base64.b64decode(match[1])
        found.append((re.findall(rb"\[\d\]", data)[-1], data))
    return found


class Later(asyncio.Event):
    """An event that is set some rounds of the loop after somebody has begun to wait for it."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    async def wait(self) -> Literal[True]:
        await rounds(self._after)
        return True


async def test_two_items_of_a_response_wait_each_for_its_own() -> None:
    def part(item: str, index: int, data: bytes) -> bytes:
        return event(
            type="response.image_generation_call.partial_image",
            item_id=item,
            output_index=index,
            partial_image_index=0,
            partial_image_b64=text(data),
            sequence_number=index,
        )

    def done(item: str, index: int, data: bytes) -> bytes:
        return event(
            type="response.output_item.done",
            output_index=index,
            item=call(text(data), id=item),
            sequence_number=index + 5,
        )

    good = part("a", 0, picture(1)) + done("a", 0, picture(2))
    document = good + part("b", 1, picture(3)) + done("b", 1, wrong(4)) + b"data: [DONE]\n\n"
    pieces = [good, document[len(good) :]]
    async with Stage(Watches(Bench()), upstream=answer(pieces=pieces, headers=SSE)) as stage:
        played = await stage.play(TALK, json={"model": "gpt-5", "input": "draw", "stream": True})
    assert played.body.startswith(good) and text(picture(3)).encode() not in played.body
    told = played.events[-1]
    assert (told["type"], told["code"], told["sequence_number"]) == ("error", "content_policy_violation", 6)
    assert told["error"]["code"] == "content_policy_violation"


async def test_refused_before_anything_flowed_a_stream_is_a_clean_refusal_where_somebody_read_ahead() -> None:
    """Failover reads ahead for a verdict: what it sees is no upstream's failure, and nobody else is asked."""
    document = event(type="image_generation.started") + completed(wrong())
    upstream = {"one": answer(body=document, headers=SSE, cuts=(9,)), "two": answer(body=document, headers=SSE)}
    plugins = (Watches(Bench()), Failover(on_safety=("two",)))
    async with Stage(*plugins, upstream=upstream) as stage:
        played = await stage.play(ASK, json=QUESTION | {"stream": True})
        assert stage.services.upstreams.health.snapshot() == []
    assert (played.status, played.error["code"]) == (400, "content_policy_violation")
    assert [asked.upstream for asked in played.asked] == ["one"]


async def test_of_a_refused_stream_nothing_is_rehosted_and_no_event_is_cut() -> None:
    good, bad, go = completed(picture(1, 900)), completed(wrong(2, 900)), asyncio.Event()
    upstream = answer(pieces=[good, go, bad], headers=SSE)
    async with Stage(Watches(Bench()), Rehost(mode="always"), Failover(), upstream=upstream, settings=IMAGES) as stage:
        playing = stage.begin(ASK, json=QUESTION | {"stream": True})
        assert b"/files/" in await playing.heard(len(event(type="image_generation.completed", url="")))
        go.set()
        played = await playing
        assert len(kept(stage)) == 1
    first, last = played.events
    assert "/files/" in first["url"] and last["error"]["code"] == "content_policy_violation"


async def test_a_stream_that_breaks_off_gives_up_nothing_that_waits() -> None:
    bench = Bench(waits=True)
    first = event(type="image_generation.started")
    upstream = answer(pieces=[first, partial(picture(1)), broken()], headers=SSE)
    async with Stage(Watches(bench), upstream=upstream) as stage:
        played = await stage.play(ASK, json=QUESTION | {"stream": True})
    assert played.body == first and not played.whole


@pytest.mark.parametrize("headers", [JSON, SSE])
async def test_a_client_that_leaves_leaves_nothing_open(headers: dict[str, str]) -> None:
    """The stage says what is left: the answer, a task, a judgement."""
    bench = Bench(waits=True)
    document = completed(picture()) if headers is SSE else drawn(picture())
    upstream = answer(pieces=[document, asyncio.Event()], headers=headers)
    async with Stage(Watches(bench), upstream=upstream) as stage:
        playing = stage.begin(ASK, json=QUESTION | {"stream": headers is SSE})
        await bench.begun.wait()
        playing.leave()
        assert (await playing).outcome.left


async def test_the_deadline_ends_a_judgement() -> None:
    bench = Bench(waits=True)
    async with Stage(Watches(bench), upstream=answer(body=drawn(picture()), headers=JSON)) as stage:
        playing = stage.begin(ASK, json=QUESTION)
        await bench.begun.wait()
        stage.clock.turn(10_000)
        assert (await playing).status == 504


@pytest.mark.parametrize("headers", [JSON, SSE])
async def test_a_judge_that_crashes_lets_nothing_out(headers: dict[str, str]) -> None:
    class Crashes(Bench):
        async def __call__(self, matter: object) -> None:
            raise RuntimeError("bug")

    document = completed(picture()) if headers is SSE else drawn(picture())
    async with Stage(Watches(Crashes()), upstream=answer(body=document, headers=headers)) as stage:
        played = await stage.play(ASK, json=QUESTION | {"stream": headers is SSE})
    assert not played.whole or played.status == 500
    assert b"iVBOR" not in played.body
