"""The default image chain over upstreams that fail: at the end all who count agree to the last request.

Clients use the official SDK; two upstreams have faults told beforehand, a third service judges. Each request carries a
number which the upstreams record, so that what became of it can be compared with what its client heard. The equations:

 1. who was refused by moderation: not one record upstream; who was served: the last record is a genuine answer;
    who was refused by an upstream: one record, with that fault; who left: one record, of a client that left
 2. calls in the log lines = records of both upstreams
 3. `requests` that count for a key = its requests with a record that was billed, may have been, or was abandoned
 4. `images` that count for a key = the pictures that these asked for; its budget: the same at their price
 5. nothing runs any more: `concurrent` is 0
 6. audit rows, by caller: blocked = refusals that its clients heard; provider = the refusals for safety in the
    upstreams' records; and no others
 7. calls of the judge = one for the words of each request, one for each picture
 8. names in the index of pictures = URLs that clients have; each serves a picture; blobs = sums in the index
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
import orjson
import pytest
from openai import AsyncOpenAI
from PIL import Image

from proxy.sandbox import Sandbox
from proxy.sandbox.markers import mark
from proxy.sandbox.record import Record
from proxy.testkit.house import Served, serve

CALLERS = ("ann", "bob", "eve")
KEYS = {name: f"sk-{name}-0123456789abcdef0123456789abcdef" for name in CALLERS}
PRICE = 0.006
CONFIG = """
[upstreams.a]
base_url = "{a}"
api_key = "env:A"
[upstreams.b]
base_url = "{b}"
api_key = "env:B"
[upstreams.judge]
base_url = "{judge}"
api_key = "env:JUDGE"
[prices]
"gpt-image-2" = {{ low = {price}, medium = {price}, high = {price} }}
"gpt-5*" = {{ input_per_mtok = 0.0, output_per_mtok = 0.0 }}
{keys}
[images]
url = "file:state/images"
[plugins.moderation]
upstream = "judge"
timeout = "30s"
[plugins.failover]
to = ["a", "b"]
[[routes]]
match = "* /v1/*"
chain = ["keys", "quota", "moderation", "rehost", "failover"]
[server]
listen = "127.0.0.1:0"
public_url = "http://pictures.test"
"""
KEY = """
[keys.{name}]
secret = "env:{upper}"
limits = {{ requests = "100k / 1d", images = "100k / 1d", budget = "1000 USD / month", concurrent = 100 }}
"""
FINE = ["ok"] * 5
DRAWING = [  # faults among genuine answers; of `b` fewer, so that most are served in the end
    *("429=ms:20", *FINE, "500", *FINE, "502-html", *FINE, "moderation-blocked", *FINE, "cut-body", *FINE),
    *("slow-first-byte=0.05", *FINE, "503-overloaded", *FINE, "reset", *FINE, "empty-200", *FINE),
]
TALKING = ["ok", "429=ms:20", *FINE, "500", *FINE, "502-html", *FINE, "moderation-blocked", *FINE]
SPARE = ["ok"] * 12 + ["500"] + ["ok"] * 12 + ["moderation-blocked"]
MAYBE = frozenset(("502-html",))  # not billed by the sandbox, which nobody behind a gateway's page can know
AT_ONCE = 12
SIZE: Any = {"model": "gpt-image-2", "size": "64x64", "quality": "low"}
LEAVING = {"x-sandbox-fault": "slow-first-byte=60"}


@dataclass(slots=True)
class Asked:
    """One request, and what its client heard."""

    number: int
    way: str
    caller: str
    marked: str = ""  # "text", "picture"
    url: bool = False
    leaves: bool = False
    heard: str = ""  # "served", "left", "cut", or an error's code
    urls: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        """Words of its own, so that no verdict is known before."""
        return f"fox number {self.number}{', flag:violence.' if self.marked == 'text' else ''}"

    @property
    def picture(self) -> bytes:
        """A picture of its own."""
        n = self.number
        image = Image.new("RGB", (80, 64), (n % 251, n // 251, 99))
        out = io.BytesIO()
        (mark(image, "violence") if self.marked == "picture" else image).save(out, "PNG")
        return out.getvalue()

    @property
    def shows(self) -> bool:
        """Whether a picture goes along."""
        return self.way in ("edit", "look")

    @property
    def pictures(self) -> int:
        """How many it asks for."""
        return {"generate": 1 if self.url else 2, "edit": 1, "stream": 1, "draw": 1}.get(self.way, 0)


def asked(count: int) -> list[Asked]:
    """A mixture in which every way meets every caller, markers, URLs and leaving."""
    found = []
    for number in range(count):
        way = tuple(WAYS)[number % len(WAYS)]
        one = Asked(number, way, CALLERS[number // len(WAYS) % len(CALLERS)])
        one.url = number % 2 == 0 and way in ("generate", "edit", "draw")
        if number % 11 == 3:
            one.marked = "picture" if one.shows else "text"
        elif number % 25 == 9:
            one.leaves = True
        found.append(one)
    return found


# --- the ways; each gives the pictures that came, and raises what the SDK raises


def _asks(one: Asked) -> dict[str, str]:
    return {"response_format": "url"} if one.url else {}


async def _generate(client: AsyncOpenAI, one: Asked, headers: dict[str, str]) -> Sequence[Any]:
    answer = await client.images.generate(
        **SIZE, prompt=one.prompt, n=one.pictures, extra_headers=headers, **_asks(one)
    )
    return [each.url or each.b64_json for each in answer.data or ()]


async def _edit(client: AsyncOpenAI, one: Asked, headers: dict[str, str]) -> Sequence[Any]:
    file = ("a.png", one.picture, "image/png")
    answer = await client.images.edit(**SIZE, prompt=one.prompt, image=file, extra_headers=headers, **_asks(one))
    return [each.url or each.b64_json for each in answer.data or ()]


async def _stream(client: AsyncOpenAI, one: Asked, headers: dict[str, str]) -> Sequence[Any]:
    stream: Any = await client.images.generate(
        **SIZE, prompt=one.prompt, stream=True, partial_images=1, extra_headers=headers
    )
    return [event.b64_json async for event in stream if event.type == "image_generation.completed"]


async def _draw(client: AsyncOpenAI, one: Asked, headers: dict[str, str]) -> Sequence[Any]:
    tool: Any = {"type": "image_generation", "model": "gpt-image-2", "size": "64x64", "quality": "low", **_asks(one)}
    answer = await client.responses.create(
        model="gpt-5-mini",
        input=one.prompt,
        tools=[tool],
        tool_choice={"type": "image_generation"},
        extra_headers=headers,
    )
    return [item.result for item in answer.output if item.type == "image_generation_call"]


async def _respond(client: AsyncOpenAI, one: Asked, headers: dict[str, str]) -> Sequence[Any]:
    answer = await client.responses.create(model="gpt-5-mini", input=one.prompt, extra_headers=headers)
    assert answer.output_text
    return ()


async def _look(client: AsyncOpenAI, one: Asked, headers: dict[str, str]) -> Sequence[Any]:
    url = f"data:image/png;base64,{base64.b64encode(one.picture).decode()}"
    content: Any = [{"type": "text", "text": one.prompt}, {"type": "image_url", "image_url": {"url": url}}]
    answer = await client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": content}], extra_headers=headers
    )
    assert answer.choices[0].message.content
    return ()


async def _talk(client: AsyncOpenAI, one: Asked, headers: dict[str, str]) -> Sequence[Any]:
    stream = await client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": one.prompt}], stream=True, extra_headers=headers
    )
    finish = [choice.finish_reason async for chunk in stream for choice in chunk.choices]
    assert finish[-1] == "stop"
    return ()


WAYS: dict[str, Callable[[AsyncOpenAI, Asked, dict[str, str]], Awaitable[Sequence[Any]]]] = {
    "generate": _generate,
    "edit": _edit,
    "stream": _stream,
    "draw": _draw,
    "respond": _respond,
    "look": _look,
    "talk": _talk,
}


# --- the house


class Town:
    """The house, its upstreams, the judge, and what came of each request."""

    def __init__(self, served: Served, a: Sandbox, b: Sandbox, judge: Sandbox, web: aiohttp.ClientSession) -> None:
        self.served, self.a, self.b, self.judge, self.web = served, a, b, judge, web

    async def ask(self, client: AsyncOpenAI, one: Asked) -> None:
        """Ask in its way, and note what is heard."""
        headers = {"x-case": str(one.number), **(LEAVING if one.leaves else {})}
        work = asyncio.ensure_future(WAYS[one.way](client.with_options(api_key=KEYS[one.caller]), one, headers))
        if one.leaves:
            while not self.of(one) and not work.done():
                await asyncio.sleep(0.005)
            work.cancel()
        try:
            came = await work
        except asyncio.CancelledError:
            one.heard = "left"
        except openai.APIStatusError as error:
            one.heard = str(error.code)
        except (openai.APIError, httpx2.TransportError):
            one.heard = "cut"
        else:
            one.heard = "served"
            assert len(came) == one.pictures, one
            one.urls = [each for each in came if str(each).startswith("http")]
            assert len(one.urls) == (one.pictures if one.url else 0), one

    def of(self, one: Asked) -> list[Record]:
        """What the upstreams have recorded of it, in order."""
        return self.records().get(one.number, [])

    def records(self) -> dict[int, list[Record]]:
        """All that the upstreams have recorded, by the number of the request."""
        found: dict[int, list[Record]] = {}
        for record in sorted([*self.a.records, *self.b.records], key=lambda record: record.at):
            found.setdefault(int(record.header("x-case") or -1), []).append(record)
        return found

    async def limits(self, caller: str) -> dict[str, float]:
        """What counts for that key, once nothing of its own runs any more."""
        headers = {"Authorization": f"Bearer {KEYS[caller]}"}
        async with asyncio.timeout(10):
            while True:
                async with self.web.get(f"{self.served.url}/v1/framegate/limits", headers=headers) as told:
                    used = {row["resource"]: row["used"] for row in (await told.json())["data"]}
                if not used["concurrent"]:
                    return used
                await asyncio.sleep(0.02)

    async def rows(self) -> list[dict[str, Any]]:
        """All rows of the audit."""
        store, found, after = self.served.house.state, [], ""
        while page := await store.items("moderation", after=after, limit=500):
            found += [orjson.loads(row) for _, row in page]
            after = page[-1][0]
        return found


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    async with Sandbox() as a, Sandbox() as b, Sandbox() as judge, aiohttp.ClientSession() as web:
        a.fault(DRAWING, times=None, match="POST /v1/images/*")
        a.fault(TALKING, times=None)
        b.fault(SPARE, times=None)
        config = CONFIG.format(
            a=a.url,
            b=b.url,
            judge=judge.url,
            price=PRICE,
            keys="".join(KEY.format(name=name, upper=name.upper()) for name in CALLERS),
        )
        environ = {name.upper(): key for name, key in KEYS.items()} | {"A": "sk-a", "B": "sk-b", "JUDGE": "sk-judge"}
        async with serve(config, environ=environ) as served:
            yield Town(served, a, b, judge, web)


@pytest.mark.parametrize("count", [210, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
async def test_all_who_count_agree(count: int) -> None:
    async with town() as here:
        requests = asked(count)
        waiting = iter(requests)

        async def ask(client: AsyncOpenAI) -> None:
            for one in waiting:
                await here.ask(client, one)

        async with AsyncOpenAI(base_url=f"{here.served.url}/v1", api_key="none", max_retries=0) as client:
            await asyncio.gather(*[ask(client) for _ in range(AT_ONCE)])
        lines = await here.served.ended(count)
        await asyncio.gather(here.a.idle(), here.b.idle(), here.judge.idle())

        records = here.records()
        became = _each_for_itself(requests, records)
        assert sum(map(_calls, lines)) == len(here.a.records) + len(here.b.records)
        for caller in CALLERS:
            await _counts(here, caller, [one for one in requests if one.caller == caller], records)
        await _audited(here, requests, records)
        assert len(here.judge.records) == count + sum(one.shows for one in requests)
        await _pictures(here, requests)
        assert min(became[each] for each in ("served", "content_policy_violation", "moderation_blocked", "left")) > 3
        assert len({record.fault for of in records.values() for record in of}) > 8, "every fault has been met"


def _calls(line: dict[str, Any]) -> int:
    """How many calls a log line tells of; not those that were passed over."""
    return sum(not re.search("=(cooling|skipped|queue)-", attempt) for attempt in line["attempts"])


def _each_for_itself(requests: Sequence[Asked], records: dict[int, list[Record]]) -> Counter[str]:
    """Equation 1."""
    for one in requests:
        of = records.get(one.number, [])
        if one.marked:
            assert (one.heard, of) == ("content_policy_violation", []), one
        elif one.leaves:
            assert one.heard == "left" and [record.left for record in of] == [True], (one, of)
        elif one.heard == "served":
            assert (of[-1].status, of[-1].fault in (None, "slow-first-byte=0.05")) == (200, True), (one, of)
            assert all(record.fault for record in of[:-1]), (one, of)
        else:
            assert of and of[-1].fault, (one, of)
            # What may have been billed means more to a client than what another upstream said of its question.
            doubt = any(record.billed or record.fault in MAYBE for record in of)
            assert (one.heard == "moderation_blocked") == (of[-1].fault == "moderation-blocked" and not doubt), (
                one,
                of,
            )
    assert sum(map(len, records.values())) == sum(len(records.get(one.number, ())) for one in requests)
    return Counter(one.heard for one in requests)


async def _counts(here: Town, caller: str, requests: Sequence[Asked], records: dict[int, list[Record]]) -> None:
    """Equations 3, 4 and 5."""
    charged = [
        one
        for one in requests
        if any(record.billed or record.left or record.fault in MAYBE for record in records.get(one.number, ()))
    ]
    used = await here.limits(caller)
    pictures = sum(one.pictures for one in charged)
    assert (used["requests"], used["images"]) == (len(charged), pictures)
    assert used["budget"] == round(pictures * PRICE, 9)


async def _audited(here: Town, requests: Sequence[Asked], records: dict[int, list[Record]]) -> None:
    """Equation 6."""
    found = Counter((row["caller"], row["decision"]) for row in await here.rows())
    expected: Counter[tuple[str, str]] = Counter()
    for one in requests:
        expected[one.caller, "blocked"] += one.heard == "content_policy_violation"
        expected[one.caller, "provider"] += sum(
            record.fault == "moderation-blocked" for record in records.get(one.number, ())
        )
    assert found == expected


async def _pictures(here: Town, requests: Sequence[Asked]) -> None:
    """Equation 8."""
    images = here.served.house.state.images(here.served.house.config)
    stored = [each async for page in images.index.all() for each in page]
    heard = {url: one.caller for one in requests for url in one.urls}
    assert Counter(each.owner for each in stored) == Counter(heard.values())
    sums = set()
    for url in heard:
        async with here.web.get(here.served.url + urlsplit(url).path) as answer:
            data = await answer.read()
            assert answer.status == 200
        Image.open(io.BytesIO(data)).load()
        sums.add(hashlib.sha256(data).hexdigest())
    assert {each.sha256 for each in stored} == sums
    assert {path.name for path in (images.files.folder / "blobs").rglob("*") if path.is_file()} == sums
