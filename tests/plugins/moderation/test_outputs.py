"""Generated pictures are judged before they are delivered, and nothing of what is refused gets out or is kept."""

from __future__ import annotations

import asyncio
import gzip
import itertools

import orjson
import pytest

from plugins.failover import Failover
from plugins.moderation.drawn import LARGEST, MEMORY, Drawn, Waiting
from plugins.moderation.verdict import Matter, Unreadable
from plugins.quota import Quota
from plugins.rehost import Rehost
from proxy.api import CALLER, FetchFailed, ProxyError
from proxy.testkit import Stage, answer, broken
from tests.images.pictures import SVG
from tests.plugins.quota.cases import ann, counted
from tests.plugins.rehost.answers import ASK, JSON, SHAPES, SSE, b64

from .drawings import IMAGES, QUESTION, completed, cut, drawn, kept, partial, picture, rounds, text, wrong
from .watching import Bench, Watches, look

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
