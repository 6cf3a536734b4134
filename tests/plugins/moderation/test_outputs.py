"""Generated pictures are judged before they are delivered, and nothing of what is refused gets out or is kept."""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import random
import re
from typing import Literal

import orjson
import pytest

from plugins.failover import Failover
from plugins.moderation.drawn import LARGEST, MEMORY, Drawn, Waiting
from plugins.moderation.verdict import Matter, Unreadable
from plugins.quota import Quota
from plugins.rehost import Rehost
from proxy.api import CALLER, FetchFailed, ProxyError
from proxy.testkit import Stage, answer, broken
from tests.images.pictures import SVG, png
from tests.plugins.quota.cases import ann, counted
from tests.plugins.rehost.answers import ASK, JSON, SHAPES, SSE, b64, call, event

from .watching import WRONG, Bench, Watches, look

QUESTION = {"model": "gpt-image-2", "prompt": "tea"}
TALK = "POST /v1/responses"
IMAGES = '[images]\nurl = "file:state/images"\n'


def picture(seed: int = 0, size: int = 100) -> bytes:
    return png(size, seed=seed)


def wrong(seed: int = 0, size: int = 100) -> bytes:
    return png(size, seed=seed) + WRONG


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def drawn(*datas: bytes) -> bytes:
    return orjson.dumps({"created": 1, "data": [{"b64_json": text(data)} for data in datas], "usage": {"a": 1}})


def partial(data: bytes, number: int = 0) -> bytes:
    return event(type="image_generation.partial_image", partial_image_index=number, b64_json=text(data))


def completed(data: bytes) -> bytes:
    return event(type="image_generation.completed", b64_json=text(data), usage={"total_tokens": 7})


def kept(stage: Stage) -> list[str]:
    folder = stage._folder / "state" / "images"
    return [one.name for one in folder.rglob("*") if one.is_file() and one.stat().st_size > 0]


def cut(document: bytes, step: int) -> list[bytes]:
    return [document[at : at + step] for at in range(0, len(document), step)]


async def rounds(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- What passes is not changed by a byte.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1, 7, 10**6])
async def test_what_passes_is_every_byte_as_it_came(shape: str, step: int) -> None:
    headers, document, _ = SHAPES[shape]
    bench = Bench(unseen=False)
    upstream = answer(headers=headers, pieces=cut(document, step))
    remote = {"https://example.com/a.png": picture()}
    async with Stage(Watches(bench), upstream=upstream, remote=remote) as stage:
        if shape == "no-picture":  # whose words for it are the judge's affair
            with pytest.raises(AssertionError):
                assert (await stage.play(ASK, json=QUESTION)).status == 200
            return
        played = await stage.play(ASK, json=QUESTION)
    assert (played.status, played.body) == (200, document)


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_picture_of_every_shape_is_seen(shape: str) -> None:
    headers, document, _ = SHAPES[shape]
    bench = Bench(unseen=False)
    remote = {"https://example.com/a.png": picture()}
    async with Stage(Watches(bench), upstream=answer(headers=headers, body=document), remote=remote) as stage:
        await stage.play(ASK, json=QUESTION)
    seen = {
        "one": 1,
        "four": 4,
        "indented": 2,
        "blanks": 1,
        "escaped-name": 1,
        "a-link": 1,
        "response": 1,
        "result-first": 1,
        "other-result": 1,  # a picture, whatever it is called
        "streamed": 3,  # the partial ones, too
        "type-last": 1,
        "twice": 1,  # the same again
    }.get(shape, 0)
    assert len(bench.seen) == seen
    assert len(bench.unseen) == {"bad": 1, "broken-off": 1}.get(shape, 0)


# --- Whole answers.


async def test_a_refused_picture_becomes_a_clean_refusal_and_nothing_is_rehosted() -> None:
    upstream = answer(body=drawn(picture(1), picture(2), wrong(3), picture(4)), headers=JSON, cuts=(99, 300))
    bench = Bench()
    async with Stage(
        Watches(bench), Rehost(mode="always"), Failover(), upstream={"one": upstream, "two": upstream}, settings=IMAGES
    ) as stage:
        played = await stage.play(ASK, json=QUESTION | {"n": 4})
        assert (played.status, played.error["code"]) == (400, "content_policy_violation")
        assert kept(stage) == [] and [asked.upstream for asked in played.asked] == ["one"]
        assert stage.services.upstreams.health.snapshot() == []
    assert played.exchange.attempts[0].withheld and b"iVBOR" not in played.body


async def test_what_passes_is_rehosted() -> None:
    upstream = answer(body=drawn(picture(1), picture(2)), headers=JSON)
    async with Stage(Watches(Bench()), Rehost(mode="always"), Failover(), upstream=upstream, settings=IMAGES) as stage:
        played = await stage.play(ASK, json=QUESTION)
        assert played.status == 200 and len(kept(stage)) == 2
        assert all("/files/" in one["url"] for one in played.json()["data"])


async def test_pictures_are_judged_side_by_side_and_not_too_many() -> None:
    bench = Bench(waits=True)
    datas = [picture(seed) for seed in range(7)]
    async with Stage(Watches(bench), upstream=answer(body=drawn(*datas), headers=JSON)) as stage:
        playing = stage.begin(ASK, json=QUESTION | {"n": 7})
        await bench.begun.wait()
        await rounds()
        assert bench.at_once == 4 and not playing.over
        bench.decided.set()
        assert (await playing).status == 200
    assert sorted(data for _, data in bench.seen) == sorted(datas)
    assert bench.at_once == 4


async def test_a_refusal_does_not_wait_for_the_rest_of_the_answer() -> None:
    """The stage fails where the answer is left open."""
    document, never = drawn(wrong(), picture()), asyncio.Event()
    upstream = answer(pieces=[document[:-60], never, document[-60:]], headers=JSON)
    async with Stage(Watches(Bench()), upstream=upstream) as stage:
        assert (await stage.play(ASK, json=QUESTION)).status == 400


async def test_an_answer_that_breaks_off_is_the_upstreams_fault_and_asked_elsewhere() -> None:
    document = drawn(picture(1, 9000))
    upstream = {"one": answer(pieces=[document[:5000], broken()], headers=JSON), "two": answer(body=document)}
    bench = Bench()
    async with Stage(Watches(bench), Failover(on_ambiguous="retry"), upstream=upstream) as stage:
        played = await stage.play(ASK, json=QUESTION)
        assert (played.status, played.body) == (200, document)
    assert bench.unseen == [] and len(bench.seen) == 1


async def test_a_large_answer_lies_in_files_meanwhile() -> None:
    datas = [picture(1, 3 * MEMORY), picture(2, 2 * MEMORY)]
    document = drawn(*datas)
    bench = Bench()
    async with Stage(Watches(bench), upstream=answer(pieces=cut(document, 2**18), headers=JSON)) as stage:
        played = await stage.play(ASK, json=QUESTION)
    assert played.body == document and sorted(data for _, data in bench.seen) == sorted(datas)


async def test_compressed_although_nobody_asked_it_is_judged_all_the_same() -> None:
    for data, status in ((picture(), 200), (wrong(), 400)):
        packed = gzip.compress(drawn(data))
        bench = Bench()
        upstream = answer(body=packed, headers=JSON | {"content-encoding": "gzip"})
        async with Stage(Watches(bench), upstream=upstream) as stage:
            played = await stage.play(ASK, json=QUESTION)
        assert played.status == status and len(bench.seen) == 1
        assert status == 400 or played.body == packed


async def test_in_a_coding_that_nobody_can_read_it_is_unseen() -> None:
    bench = Bench()
    upstream = answer(body=b"\x8b\x01\x80{}\x03", headers=JSON | {"content-encoding": "br"})
    async with Stage(Watches(bench), upstream=upstream) as stage:
        assert (await stage.play(ASK, json=QUESTION)).status == 400
    assert bench.unseen == ["an answer that can't be read"]


async def test_what_no_reader_could_read_is_left_to_failover() -> None:
    pages = [b"<html>" + b"502 " * 4000, b'{"created":1,"data":[', b""]
    for page in pages:
        upstream = {"one": answer(body=page, headers=JSON), "two": answer(body=drawn(picture()), headers=JSON)}
        bench = Bench()
        async with Stage(Watches(bench), Failover(on_ambiguous="retry"), upstream=upstream) as stage:
            played = await stage.play(ASK, json=QUESTION)
        assert played.status == 200 and bench.unseen == [] and len(bench.seen) == 1


async def test_a_long_document_that_breaks_may_hide_something() -> None:
    bench = Bench()
    upstream = answer(body=b'{"data":' + b"[" * 500 + b" " * 5000, headers=JSON)
    async with Stage(Watches(bench), upstream=upstream) as stage:
        assert (await stage.play(ASK, json=QUESTION)).status == 400
    assert bench.unseen == ["an answer that can't be read"]


async def test_errors_and_what_is_no_picture_are_none_of_its_business() -> None:
    for told in (
        answer(429, json={"error": {"message": "slow"}}),
        answer(json={"data": [], "note": "b64_json"}),
        answer(body=b"words " * 2000, headers={"content-type": "text/plain"}),
        answer(body=b"ID3" + bytes(9000), headers={"content-type": "audio/mpeg"}),
        answer(pieces=[b"P", b"K" + bytes(9000)], headers={"content-type": "application/octet-stream"}),
    ):
        bench = Bench()
        async with Stage(Watches(bench), upstream=told) as stage:
            played = await stage.play(ASK, json=QUESTION)
        assert played.status == told.status
        assert played.body == b"".join(one for one in told.pieces if isinstance(one, bytes))
        assert bench.seen == [] and bench.unseen == []


@pytest.mark.parametrize("media", ["image/png", "application/octet-stream"])
async def test_a_file_that_is_a_picture_is_judged(media: str) -> None:
    for data, status in ((picture(1, 5000), 200), (wrong(1, 5000), 400)):
        bench = Bench()
        upstream = answer(pieces=cut(data, 9), headers={"content-type": media})
        async with Stage(Watches(bench), upstream=upstream) as stage:
            played = await stage.play("GET /v1/containers/c/files/f/content")
        assert played.status == status and [seen for _, seen in bench.seen] == [data]
        assert status == 400 or played.body == data


# --- What nobody can look at.


@pytest.mark.parametrize(
    ("member", "why"),
    [
        ({"b64_json": b64(900) + "*" + "A" * 900}, "a picture that can't be read: it is not base64"),
        ({"b64_json": text(SVG)}, "a picture in SVG"),
        ({"url": "data:image/svg+xml,%3Csvg%3E"}, "a picture in a data: URI that is not base64"),
        ({"url": "https://example.com/gone.png"}, "a picture that can't be fetched: it was answered with status 404"),
        ({"url": "https://example.com/half.png"}, "a picture that can't be fetched: it broke off"),
    ],
)
@pytest.mark.parametrize("refused", [True, False])
async def test_what_nobody_can_look_at_is_told(member: dict[str, str], why: str, refused: bool) -> None:
    document = orjson.dumps({"data": [member]})
    bench = Bench(unseen=refused)
    remote = {"https://example.com/half.png": [b"\x89PNG", FetchFailed("it broke off")]}
    async with Stage(Watches(bench), upstream=answer(body=document, headers=JSON), remote=remote) as stage:
        played = await stage.play(ASK, json=QUESTION)
    assert bench.unseen == [f"data[0].{next(iter(member))}: {why}"] and bench.seen == []
    assert (played.status, played.body == document) == ((400, False) if refused else (200, True))


async def test_a_picture_by_url_is_fetched() -> None:
    for data, status in ((picture(), 200), (wrong(), 400)):
        document = b'{"data":[{"url":"https://example.com/a.png"}]}'
        bench = Bench()
        remote = {"https://example.com/a.png": [data[:9], data[9:]]}
        async with Stage(Watches(bench), upstream=answer(body=document, headers=JSON), remote=remote) as stage:
            played = await stage.play(ASK, json=QUESTION)
        assert played.status == status and bench.seen == [("data[0].url", data)]


async def test_a_picture_over_the_limit_is_unseen_and_not_kept() -> None:
    one = Drawn("data[0].b64_json", look)
    block = bytes(2**20)
    for _ in range(LARGEST // 2**20):
        one.add(block)
    assert one.unseen is None
    one.add(b"x")
    assert one.unseen == f"a picture of more than {LARGEST} bytes"
    one.add(block)
    with pytest.raises(Unreadable):
        await one.views()
    one.close()


# --- Streams.


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


# --- What it costs.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("down", [False, True])
async def test_quota_keeps_what_was_drawn_and_withheld(stream: bool, down: bool) -> None:
    class Down(Bench):
        async def __call__(self, matter: Matter) -> None:
            raise ProxyError(
                "Nobody judged.", status=503, type="service_unavailable_error", code="moderation_unavailable"
            )

    document = partial(picture()) + completed(wrong()) if stream else drawn(wrong())
    upstream = answer(body=document, headers=SSE if stream else JSON)
    facts = {CALLER: ann(images="20 / 1m")}
    plugins = (Quota(charge_ambiguous=False), Watches(Down() if down else Bench()))
    async with Stage(*plugins, upstream=upstream, facts=facts) as stage:
        await stage.play(ASK, json=QUESTION | {"stream": stream})
        assert (await counted(stage))["images"] == 1


# --- What waits.


def test_what_waits_comes_out_in_order_whatever_goes_in() -> None:
    waiting = Waiting()
    data = bytes(range(256)) * 9000
    went, at = b"", 0
    for step, lag in zip(itertools.cycle((1, 700, 300_000, 5)), itertools.cycle((0, 10, 2_000_000, 3)), strict=False):
        if at >= len(data):
            break
        piece = data[at : at + step]
        at += len(piece)
        went += b"".join(waiting.past(piece, max(0, at - lag)))
        assert len(went) <= at and data.startswith(went)
    assert went + b"".join(waiting.past(b"", float("inf"))) == data
    waiting.close()
