"""How a fault is named: by header, by the model, beforehand."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.sandbox import Sandbox

from .plain import CHAT, GENERATION, LAST, Heard, ask, field, post
from .spoken import form, multipart

pytestmark = pytest.mark.usefixtures("spoken")

CLOSE = {"Connection": "close"}
GENERATIONS, COMPLETIONS = "/v1/images/generations", "/v1/chat/completions"


def error(heard: Heard) -> dict[str, str]:
    found: dict[str, str] = orjson.loads(heard.body)["error"]
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [(GENERATIONS, GENERATION), (COMPLETIONS, CHAT), (COMPLETIONS, {**CHAT, "stream": True})],
)
async def test_a_model_named_after_a_fault_meets_it(path: str, body: dict[str, object]) -> None:
    async with Sandbox() as sandbox:
        refused = await ask(sandbox.url, post(path, {**body, "model": "fault-429:20"}, **CLOSE))
        marked = await ask(sandbox.url, post(path, {**body, "model": "fault-set-cookie"}, **CLOSE))
    assert (refused.status, field(refused.head, "retry-after")) == (429, "20")
    assert marked.status == 200 and field(marked.head, "set-cookie"), "the endpoint knew the model that it was given"
    assert [record.fault for record in sandbox.records] == ["429=20", "set-cookie"]
    assert [record.billed for record in sandbox.records] == [False, True]


@pytest.mark.parametrize("first", ["model", "image"])
async def test_a_fault_is_named_in_a_form(first: str) -> None:
    async with Sandbox() as sandbox:
        refused = await ask(sandbox.url, multipart(form("fault-503-overloaded", first=first)))
        marked = await ask(sandbox.url, multipart(form("fault-set-cookie", first=first)))
    assert error(refused)["code"] == "server_is_overloaded"
    assert field(marked.head, "set-cookie")
    assert orjson.loads(marked.body) == {"model": "gpt-image-2", "image": 3000, "prompt": "a fox"}


async def test_a_form_that_names_no_fault_comes_through_as_it_is() -> None:
    picture = bytes(range(256)) * 8192
    async with Sandbox() as sandbox:
        heard = await ask(sandbox.url, multipart(form("gpt-image-2", picture)))
        behind = await ask(sandbox.url, multipart(form("fault-500", picture, first="image")))
    assert orjson.loads(heard.body) == {"model": "gpt-image-2", "image": len(picture), "prompt": "a fox"}
    assert orjson.loads(behind.body)["model"] == "fault-500", "further back than anybody looks"


async def test_a_fault_is_named_in_a_tool() -> None:
    tool = {"type": "image_generation", "model": "fault-set-cookie"}
    async with Sandbox() as sandbox:
        heard = await ask(sandbox.url, post("/v1/responses/drawn", {"model": "gpt-5", "tools": [tool]}, **CLOSE))
    assert field(heard.head, "set-cookie")
    assert b'"asked":{"model":"gpt-5","tools":[{"type":"image_generation","model":"gpt-image-2"}]}' in heard.body


@pytest.mark.parametrize("fault", ["bad-base64", "not-an-image", "empty-200", "sse-error-midstream"])
async def test_a_responses_stream_is_spoilt_in_its_own_words(fault: str) -> None:
    async with Sandbox() as sandbox:
        heard = await ask(sandbox.url, post("/v1/responses/drawn", {}, X_Sandbox_Fault=fault, **CLOSE))
    if fault == "empty-200":
        assert b"image_generation_call" not in heard.body and b"event: response.completed\n" in heard.body
    elif fault == "sse-error-midstream":
        last = heard.body.split(b"event: error\ndata: ")[1].split(b"\n\n")[0]
        assert orjson.loads(last)["sequence_number"] == 2
        assert b"response.completed" not in heard.body and orjson.loads(last)["type"] == "error"
    else:
        assert heard.body.count(b"!*not base64*!" if fault == "bad-base64" else b"VGhpcyBpcyBub3Q") == 3
        assert b'"result":"aGVsbG8="' not in heard.body


async def test_the_header_comes_before_the_model_and_the_model_before_the_script() -> None:
    async with Sandbox() as sandbox:
        sandbox.fault("503-overloaded")
        chat = {**CHAT, "model": "fault-500"}
        statuses = [
            (await ask(sandbox.url, post(COMPLETIONS, body, **headers, **CLOSE))).status
            for body, headers in ((chat, {"X_Sandbox_Fault": "429"}), (chat, {}), (CHAT, {}), (CHAT, {}))
        ]
    assert statuses == [429, 500, 503, 200], "and what was told beforehand waits for its turn"


async def test_faults_told_beforehand_come_in_order_and_so_often() -> None:
    async with Sandbox() as sandbox:
        sandbox.fault(["500", "ok"], times=2, match="POST /v1/chat/*")
        sandbox.fault("429", times=None, match="POST /v1/images/generations", model="gpt-image-2")
        chat = [(await ask(sandbox.url, post(COMPLETIONS, CHAT, **CLOSE))).status for _ in range(5)]
        asked = [{**GENERATION, "model": model} for model in ("gpt-image-2.5-flare", "gpt-image-2", "gpt-image-2")]
        pictures = [(await ask(sandbox.url, post(GENERATIONS, body, **CLOSE))).status for body in asked]
        models = (await ask(sandbox.url, LAST)).status
        sandbox.clear()
        cleared = (await ask(sandbox.url, post(GENERATIONS, asked[1], **CLOSE))).status
    assert chat == [500, 200, 500, 200, 200]
    assert pictures == [200, 429, 429]
    assert (models, cleared) == (200, 200)
    assert len(sandbox.records) == 1


async def test_an_early_refusal_told_beforehand_does_not_read_the_body() -> None:
    async with Sandbox() as sandbox:
        sandbox.fault("early-refusal=413", match="POST /v1/chat/*")
        other = await ask(sandbox.url, post(GENERATIONS, GENERATION, **CLOSE))
        heard = await ask(sandbox.url, post(COMPLETIONS, CHAT))
        after = await ask(sandbox.url, post(COMPLETIONS, CHAT, **CLOSE))
    assert (other.status, heard.status, after.status) == (200, 413, 200)
    assert [record.length for record in sandbox.records][1:] == [0, len(orjson.dumps(CHAT))]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("502-htm", "There is no fault '502-htm'; did you mean '502-html'?"),
        ("x", "There is no fault 'x'; there are: 429, "),
        ("drip=x", "The fault 'drip' takes seconds (default 0.05), not 'x'."),
        ("drip=nan", "The fault 'drip' takes seconds (default 0.05), not 'nan'."),
        ("500=1", "The fault '500' takes no argument, but got '1'."),
        ("huge=0", "The fault 'huge' takes MiB, 1 to 1024 (default 64), not '0'."),
        ("task-200=x", "The fault 'task-200' takes apimart or openoctopus or kie (default apimart), not 'x'."),
        ("early-refusal=200", "The fault 'early-refusal' takes 429, 400, 401, 413 or 503, and rst, with a comma"),
    ],
)
async def test_says_what_is_wrong_with_a_name(name: str, words: str) -> None:
    async with Sandbox() as sandbox:
        by_header = await ask(sandbox.url, post(COMPLETIONS, CHAT, X_Sandbox_Fault=name, **CLOSE))
        model = {**CHAT, "model": f"fault-{name.replace('=', ':')}"}
        by_model = await ask(sandbox.url, post(COMPLETIONS, model, **CLOSE))
        with pytest.raises(ValueError, match="fault"):
            sandbox.fault(name)
    for heard in (by_header, by_model):
        assert (heard.status, error(heard)["code"]) == (400, "sandbox_fault")
        assert error(heard)["message"].startswith(words)


async def test_refuses_what_can_not_come_true() -> None:
    async with Sandbox() as sandbox:
        wrongs: tuple[dict[str, Any], ...] = ({"times": 0}, {"match": "/v1/images"}, {"match": "POST v1"})
        for wrong in wrongs:
            with pytest.raises(ValueError, match=r"times is a whole number|match is a method and a path"):
                sandbox.fault("500", **wrong)
        with pytest.raises(ValueError, match="no fault was named"):
            sandbox.fault([])
        with pytest.raises(ValueError, match="it can't depend on the model"):
            sandbox.fault("early-refusal", model="gpt-5")
        heard = await ask(sandbox.url, post(COMPLETIONS, {**CHAT, "model": "fault-early-refusal"}, **CLOSE))
    assert "before the body is read" in error(heard)["message"]


async def test_a_genuine_refusal_is_not_rewritten_but_can_be_cut() -> None:
    nothing = {**GENERATION, "prompt": ""}
    async with Sandbox() as sandbox:
        kept = [
            await ask(sandbox.url, post(GENERATIONS, nothing, X_Sandbox_Fault=fault, **CLOSE))
            for fault in ("bad-base64", "empty-200", "huge=1", "sse-error-midstream")
        ]
        cut = await ask(sandbox.url, post(GENERATIONS, nothing, X_Sandbox_Fault="cut-body"))
        unspoilt = await ask(sandbox.url, post(GENERATIONS, nothing, **CLOSE))
    assert {(heard.status, error(heard)["code"]) for heard in kept} == {(400, "empty_string")}
    assert {heard.body for heard in kept} == {unspoilt.body}
    assert cut.status == 400 and len(cut.body) == int(field(cut.head, "content-length") or 0) // 2
    assert not any(record.billed for record in sandbox.records)
