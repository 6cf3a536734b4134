"""Pictures that show one thing to a judge and another to a model, or nothing to anybody: none of them leaves."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from .asking import FORM, field, file, uploaded, user
from .house import CHAT, EDIT, JSON, RESPOND, Moderating, blocked, error, moderating
from .pictures import HIDDEN, UNCLEAR, picture, url

pytestmark = pytest.mark.asyncio(loop_scope="module")
MARKED = picture("PNG", "violence")
ENCODED = base64.b64encode(MARKED).decode()
PADDED = next(data for side in range(96, 120) if len(data := picture(side=side)) % 3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[Moderating]:
    async with moderating() as house:
        yield house


WAYS: dict[str, Callable[[bytes], tuple[str, str, bytes | dict[str, Any]]]] = {
    "uploaded": lambda data: (EDIT, FORM, uploaded(file("image", data), field("prompt", "a"))),
    "inline": lambda data: (CHAT, JSON, user({"type": "image_url", "image_url": {"url": url(data)}})),
    "in a tool's answer": lambda data: (
        RESPOND,
        JSON,
        {
            "input": [
                {
                    "type": "function_call_output",
                    "call_id": "c",
                    "output": [{"type": "input_image", "image_url": url(data)}],
                }
            ]
        },
    ),
    "as a tool's mask": lambda data: (
        RESPOND,
        JSON,
        {"input": "a", "tools": [{"type": "image_generation", "input_image_mask": {"image_url": url(data)}}]},
    ),
    "of a screen": lambda data: (
        RESPOND,
        JSON,
        {
            "input": [
                {
                    "type": "computer_call_output",
                    "call_id": "c",
                    "output": {"type": "computer_screenshot", "image_url": url(data)},
                }
            ]
        },
    ),
    "handed back": lambda data: (
        RESPOND,
        JSON,
        {"input": [{"type": "image_generation_call", "id": "i", "result": base64.b64encode(data).decode()}]},
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HIDDEN)
async def test_a_marker_that_is_hidden_in_a_picture_is_seen(house: Moderating, name: str, way: str) -> None:
    before = len(house.upstream.records)
    target, kind, body = WAYS[way](HIDDEN[name]())
    assert blocked(await house.ask(target, body, kind))
    assert await house.left(before) == []


# An empty picture handed back is none.
SHOWN = [(name, way) for name in UNCLEAR for way in WAYS if (name, way) != ("nothing", "handed back")]


@pytest.mark.parametrize(("name", "way"), SHOWN, ids=[f"{name}, {way}" for name, way in SHOWN])
async def test_a_picture_that_can_be_seen_in_two_ways_or_not_at_all_stays(
    house: Moderating, name: str, way: str
) -> None:
    before = len(house.upstream.records)
    target, kind, body = WAYS[way](UNCLEAR[name]())
    answer = await house.ask(target, body, kind)
    assert await house.left(before) == []
    assert answer.status == 400 and error(answer)["code"] != "content_policy_violation", answer


SPELT: dict[str, str] = {  # data: URLs of a marked picture, as lenient readers take them
    "another type": url(MARKED, "data:image/gif;base64,"),
    "a type of no picture": url(MARKED, "data:text/plain;base64,"),
    "no type": url(MARKED, "data:;base64,"),
    "in capitals": url(MARKED, "DATA:IMAGE/PNG;BASE64,"),
    "with a parameter": url(MARKED, "data:image/png;name=a.png;base64,"),
    "with a charset": url(MARKED, "data:image/png;charset=utf-8;base64,"),
    "behind a blank": " " + url(MARKED),
    "behind a line break": "\n" + url(MARKED),
    "with blanks in its head": url(MARKED, "data: image/png ; base64 , "),
    "without its head": ENCODED,
    "not said to be base64": url(MARKED, "data:image/png,"),
    "in percents": "data:image/png," + "".join(f"%{byte:02x}" for byte in MARKED),
    "with line breaks": "data:image/png;base64," + "\n".join(re.findall(".{1,76}", ENCODED)),
    "with blanks": "data:image/png;base64," + " ".join(re.findall(".{1,76}", ENCODED)),
    "with junk": "data:image/png;base64," + ENCODED[:40] + "*-*" + ENCODED[40:],
    "with an escape": "data:image/png;base64," + ENCODED.replace("+", "%2B", 1),
    "of the URL's alphabet": "data:image/png;base64," + base64.urlsafe_b64encode(MARKED).decode(),
    "without padding": "data:image/png;base64," + ENCODED.rstrip("="),
    "with too much padding": "data:image/png;base64," + ENCODED + "====",
    "with a second one behind": url(PADDED) + ENCODED,
    "with a fragment": url(MARKED) + "#a",
    "of a picture and a second URL": url(PADDED) + "," + url(MARKED),
}


@pytest.mark.parametrize("name", SPELT)
async def test_no_way_of_writing_a_picture_leads_past(house: Moderating, name: str) -> None:
    before = len(house.upstream.records)
    for body in (
        user({"type": "image_url", "image_url": {"url": SPELT[name]}}),
        user({"type": "image_url", "image_url": SPELT[name]}),
    ):
        answer = await house.ask(CHAT, body)
        assert (await house.left(before), answer.status) == ([], 400)
    answer = await house.ask(EDIT, {"prompt": "a", "images": [{"image_url": SPELT[name]}]})
    assert (await house.left(before), answer.status) == ([], 400)
