"""What is asked of us never reaches upstream, and all else does as it was sent."""

from __future__ import annotations

import base64
import json
import re

import pytest

from plugins.rehost import Rehost
from proxy.api import CALLER, Caller, FetchFailed, ImageStoreError, Stored
from proxy.testkit import Stage, answer
from tests.images.pictures import png

from .answers import ASK, JSON, SHAPES, SSE, b64, back, event, partial

IMAGES = '[images]\nurl = "file:state/images"\n'
ONE = SHAPES["one"][1]
FORM = {"content-type": "multipart/form-data; boundary=xyz"}


def form(**fields: str) -> bytes:
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()
    ]
    return "".join([*parts, "--xyz--\r\n"]).encode()


@pytest.mark.parametrize(
    ("target", "headers", "sent", "received", "url", "changed"),
    [
        (ASK, JSON, b'{"prompt":"a","n":1}', b'{"prompt":"a","n":1}', False, None),
        (ASK, JSON, b'{"response_format":"b64_json"}', b'{"response_format":"b64_json"}', False, None),
        (
            ASK,
            JSON,
            b'{ "prompt":"\\u00e4" , "response_format" : "url", "n": 1.0e0}'.replace(b"1.0e0", b"1"),
            b'{ "prompt":"\\u00e4" , "n": 1}',
            True,
            "response_format: url -> (left out)",
        ),
        (
            ASK,
            JSON,
            b'{"prompt":"a","response_f\\u006frmat":"\\u0075rl"}',
            b'{"prompt":"a"}',
            True,
            "response_format: url -> (left out)",
        ),
        (
            "POST /v1/images/edits",
            FORM,
            form(prompt="a", response_format="url", n="1"),
            form(prompt="a", n="1"),
            True,
            "response_format: url -> (left out)",
        ),
        ("POST /v1/images/edits", FORM, form(prompt="url"), form(prompt="url"), False, None),
        (
            "POST /v1/chat/completions",
            JSON,
            b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://e.com/a"}}]}]}',
            b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://e.com/a"}}]}]}',
            False,
            None,
        ),
        (
            "POST /v1/responses",
            JSON,
            b'{"input":"a","tools":[{"type":"web"},{"response_format":"url","type":"image_generation"}]}',
            b'{"input":"a","tools":[{"type":"web"},{"type":"image_generation"}]}',
            True,
            "tools[1].response_format: url -> (left out)",
        ),
    ],
)
async def test_only_the_wish_is_taken_out(
    target: str, headers: dict[str, str], sent: bytes, received: bytes, url: bool, changed: str | None
) -> None:
    async with Stage(Rehost(), upstream=answer(headers=JSON, body=ONE), settings=IMAGES) as stage:
        played = await stage.play(target, body=sent, headers=headers)
        assert played.asked[0].body == received
        assert (played.body != ONE) is url
        assert played.headers.get("x-framegate-changed") == changed
        assert (await back(played.body, stage.services))[0] == ONE


@pytest.mark.parametrize(
    ("sent", "received", "url", "changed"),
    [
        (b'{"prompt":"a"}', b'{"prompt":"a"}', True, None),
        (b'{"response_format":"b64_json"}', b"{}", False, "response_format: b64_json -> (left out)"),
        (
            b'{"model":"dall-e-3","style":"vivid","quality":"hd","n":1}',
            b'{"model":"dall-e-3","quality":"high","n":1}',
            True,
            "quality: hd -> high; style: (left out)",
        ),
        (b'{"quality":"standard"}', b'{"quality":"medium"}', True, "quality: standard -> medium"),
        (b'{"quality":"low"}', b'{"quality":"low"}', True, None),
        (b'{"model":"dall-e-3","n":2}', b'{"model":"dall-e-3","n":1}', True, "n: 2 -> 1"),
        (b'{"output_format":"svg","n":2}', b'{"output_format":"svg","n":1}', True, "n: 2 -> 1"),
        (b'{"n":2}', b'{"n":2}', True, None),
    ],
)
async def test_what_dall_e_knew_is_said_in_todays_words(
    sent: bytes, received: bytes, url: bool, changed: str | None
) -> None:
    async with Stage(Rehost(dalle_compat=True), upstream=answer(headers=JSON, body=ONE), settings=IMAGES) as stage:
        played = await stage.play(ASK, body=sent, headers=JSON)
        assert played.asked[0].body == received
        assert (played.body != ONE) is url
        assert played.headers.get("x-framegate-changed") == changed


async def test_a_form_of_dall_es_days() -> None:
    async with Stage(Rehost(dalle_compat=True), upstream=answer(headers=JSON, body=ONE), settings=IMAGES) as stage:
        sent = form(prompt="a", quality="hd", style="natural", response_format="b64_json")
        played = await stage.play("POST /v1/images/edits", body=sent, headers=FORM)
        assert played.asked[0].body == form(prompt="a", quality="high")
        assert played.body == ONE


@pytest.mark.parametrize(
    ("mode", "own", "asks", "url"),
    [
        ("always", None, False, True),
        ("never", None, True, False),
        ("never", "always", False, True),
        ("always", "never", True, False),
        ("always", "on-request", False, False),
        ("on-request", "always", False, True),
    ],
)
async def test_a_keys_own_word_comes_first(mode: str, own: str | None, asks: bool, url: bool) -> None:
    facts = {CALLER: Caller("ann", rehost=own)}  # type: ignore[arg-type]
    asked = {"prompt": "a"} | ({"response_format": "url"} if asks else {})
    rehost = Rehost(mode=mode)  # type: ignore[arg-type]
    async with Stage(rehost, upstream=answer(headers=JSON, body=ONE), settings=IMAGES, facts=facts) as stage:
        played = await stage.play(ASK, json=asked)
        names = (await back(played.body, stage.services))[1]
        assert bool(names) is url
        assert mode != "never" or own or b"response_format" in played.asked[0].body
        for name in names:
            stored = await stage.services.images.find(name)
            assert stored is not None and (stored.owner, stored.request) == ("ann", played.exchange.id)


async def test_partial_pictures_by_choice() -> None:
    document = partial(0, b64(70)) + partial(1, b64(75)) + event(type="image_generation.completed", b64_json=b64())
    drawn = event(type="response.image_generation_call.partial_image", partial_image_b64=b64(90), item_id="i")
    upstream = [answer(headers=SSE, pieces=[document]), answer(headers=SSE, pieces=[drawn])]
    async with Stage(Rehost(mode="always", partials=True), upstream=upstream, settings=IMAGES) as stage:
        for original, count in ((document, 3), (drawn, 1)):
            played = await stage.play(ASK, json={"prompt": "a", "stream": True})
            restored, names = await back(played.body, stage.services)
            assert restored == original and len(names) == count


async def test_both_by_choice() -> None:
    drawn = SHAPES["twice"]
    upstream = [answer(headers=JSON, body=ONE), answer(headers=drawn[0], pieces=[drawn[1]])]
    async with Stage(Rehost(mode="always", keep_b64=True), upstream=upstream, settings=IMAGES) as stage:
        for document, count in ((ONE, 1), (drawn[1], 2)):
            played = await stage.play(ASK, json={"prompt": "a"})
            links = re.findall(rb',"url":"[^"]*/files/([^"]*)"', played.body)
            assert re.sub(rb',"url":"[^"]*"', b"", played.body) == document
            assert len(links) == count and len(set(links)) == 1
            body = await stage.services.images.body(links[0].decode())
            assert body is not None
            await body.aclose()


async def test_a_chats_picture_in_a_data_url() -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64()}"}}
    message = {"choices": [{"message": {"content": "here", "images": [picture]}}]}
    async with Stage(Rehost(mode="always"), upstream=answer(json=message), settings=IMAGES) as stage:
        played = await stage.play("POST /v1/chat/completions", json={"messages": []})
        link = played.json()["choices"][0]["message"]["images"][0]["image_url"]["url"]
        assert re.fullmatch(r"http://127.0.0.1:\d+/files/[a-z2-7]{26}\.png", link)
        assert played.json() | {"choices": []} == {"choices": []}


async def test_errors_and_answers_that_are_no_json_pass_as_they_are() -> None:
    upstream = [
        answer(400, json={"error": {"code": "moderation_blocked"}, "data": [{"b64_json": b64()}]}),
        answer(body=b"\x89PNG...", headers={"content-type": "image/png"}),
        answer(204, body=b""),
    ]
    async with Stage(Rehost(mode="always"), upstream=upstream, settings=IMAGES) as stage:
        for expected in (upstream[0].pieces[0], b"\x89PNG...", b""):
            assert (await stage.play(ASK, json={"prompt": "a"})).body == expected


async def test_providers_own_urls_by_choice() -> None:
    theirs = "https://cdn.example.com/a.png?sig=1"
    bad = "https://cdn.example.com/gone.png"
    document = f'{{"data":[{{"url":"{theirs}","x":1}},{{"url":"{bad}"}},{{"url" : "{theirs}"}}]}}'.encode()
    remote = {theirs: png(5000), bad: FetchFailed("no answer in time", host="cdn.example.com")}
    for urls in (True, False):
        rehost = Rehost(mode="always", urls=urls)
        async with Stage(rehost, upstream=answer(headers=JSON, body=document), settings=IMAGES, remote=remote) as stage:
            played = await stage.play(ASK, json={"prompt": "a"})
            if not urls:
                assert played.body == document and not stage.fetched
                continue
            found = [item["url"] for item in played.json()["data"]]
            assert found[1] == bad and found[0] != found[2]
            for link in (found[0], found[2]):
                body = await stage.services.images.body(link.rpartition("/")[2])
                assert body is not None and await body.read(10**6) == png(5000)
                await body.aclose()
            assert re.sub(rb"http://[^\"]*/files/[^\"]*", theirs.encode(), played.body) == document
            assert played.headers.get("x-framegate-warning") == "fetch_failed"
            assert "sig=1" not in str(stage.log)


def shown(url: str) -> dict[str, bytes]:
    """A request of each sort that shows a model the picture of that URL."""
    link = json.dumps(url)
    return {
        "POST /v1/chat/completions": b'{"messages":[{"role":"user","content":[{"type":"text","text":"what?"},'
        b'{"type":"image_url","image_url":{"detail":"low","url": %b}}]}]}' % link.encode(),
        "POST /v1/responses": b'{"input":[{"role":"user","content":[{"type":"input_image","image_url":%b}]},'
        b'{"type":"function_call_output","output":[{"type":"input_image", "image_url":%b}]}]}'
        % (link.encode(), link.encode()),
    }


async def kept(stage: Stage, owner: str | None) -> Stored:
    async with stage.services.images.spool(owner=owner) as spool:
        spool.write(png(100_000))
        return await spool.commit()


@pytest.mark.parametrize("owner", ["ann", None])
async def test_a_picture_of_ones_own_is_shown_by_its_bytes(owner: str | None) -> None:
    facts = {CALLER: Caller(owner)} if owner else {}
    async with Stage(Rehost(), upstream=answer(json={}), settings=IMAGES, facts=facts) as stage:
        stored = await kept(stage, owner)
        whole = b"data:image/png;base64," + base64.b64encode(png(100_000))
        for url in (stored.url, f"https://elsewhere.example/proxy{stored.path}?expires=1&signature=x"):
            for target, sent in shown(url).items():
                for body in (sent, sent.replace(b"/", b"\\/")):
                    played = await stage.play(target, body=body, headers=JSON)
                    link = json.dumps(url).encode()
                    expected = body.replace(link if body is sent else link.replace(b"/", b"\\/"), b'"%b"' % whole)
                    assert played.asked[0].body == expected


async def test_a_picture_that_is_not_ones_own_is_shown_as_it_came() -> None:
    facts = {CALLER: Caller("bob")}
    async with Stage(Rehost(), upstream=answer(json={}), settings=IMAGES, facts=facts) as stage:
        theirs = await kept(stage, "ann")
        for url in (theirs.url, f"https://e.com/files/{'a' * 26}.png", "https://e.com/files/a.png"):
            for target, sent in shown(url).items():
                assert (await stage.play(target, body=sent, headers=JSON)).asked[0].body == sent
        url = (await kept(stage, "bob")).url  # elsewhere in a request it is a text like any other
        for sent in (b'{"prompt":"draw ' + url.encode() + b'"}', b'{"a.b":[{"image_url":"%b"}]}' % url.encode()):
            assert (await stage.play(ASK, body=sent, headers=JSON)).asked[0].body == sent


async def test_while_nobody_can_tell_whose_a_picture_is_it_is_shown_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage(Rehost(), upstream=answer(json={}), settings=IMAGES) as stage:
        stored = await kept(stage, None)

        async def failing(name: str) -> None:
            raise ImageStoreError("S3 did not answer.")

        monkeypatch.setattr(stage.services.images, "body", failing)
        for target, sent in shown(stored.url).items():
            assert (await stage.play(target, body=sent, headers=JSON)).asked[0].body == sent
        result = b'{"input":[{"type":"image_generation_call","result":"%b"}]}' % stored.url.encode()
        played = await stage.play("POST /v1/responses", body=result, headers=JSON)
        assert played.status == 503 and not played.asked
