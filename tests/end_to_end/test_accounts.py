"""Two groups with upstream accounts of their own, through both official SDKs at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import pairwise

import orjson
from openai import AsyncOpenAI

from proxy.testkit import Call, ScriptedUpstream, serve

from ..conftest import NODE

WEB, CI = "web-key-0123456789-0123456789-0123456789", "ci-key-0123456789-0123456789-0123456789"
ENVIRON = {"WEB": WEB, "CI": CI, "TEAM_A": "sk-team-a-0123456789", "TEAM_B": "sk-team-b-0123456789"}
EACH = 500  # requests by each SDK


def config(upstream: ScriptedUpstream) -> str:
    return f"""
[upstreams.only]
base_url = "{upstream.url}"
[keys.web]
secret = "env:WEB"
group = "a"
[keys.ci]
secret = "env:CI"
group = "b"
[groups.a]
credentials = {{ only = "env:TEAM_A" }}
[groups.b]
credentials = {{ only = "env:TEAM_B" }}
[[routes]]
match = "* /v1/*"
chain = ["keys"]
"""


async def test_both_sdks_at_once_never_mix_two_accounts(
    needs: Callable[[str], str], installed: Callable[[str], None]
) -> None:
    node = needs("node")
    installed(needs("npm"))
    seen: list[tuple[str, str]] = []
    begun = asyncio.Event()

    async def script(call: Call) -> None:
        asked = orjson.loads(await call.body())["prompt"]
        begun.set()
        seen.append((asked, (call.received.get(b"authorization") or b"").decode()))
        body = orjson.dumps({"created": 1, "data": [{"b64_json": asked}]})
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        await call.send(head % len(body) + body)

    async with ScriptedUpstream(script=script) as upstream, serve(config(upstream), environ=ENVIRON) as served:
        process = await asyncio.create_subprocess_exec(
            *(node, "interleave.mjs", f"{served.url}/v1", str(EACH)),
            cwd=NODE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "WEB": WEB, "CI_KEY": CI},
        )
        clients = [AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0) for key in (WEB, CI)]

        async def ask(number: int) -> bool:
            name = f"{'ab'[number % 2]}-python-{number}"
            answer = await clients[number % 2].images.generate(model="gpt-image-2", prompt=name)
            return answer.data is not None and answer.data[0].b64_json == name

        await begun.wait()  # Node takes its time to start
        own = 0
        for start in range(0, EACH, 25):
            own += sum(await asyncio.gather(*map(ask, range(start, start + 25))))
        said, _ = await process.communicate()
        for client in clients:
            await client.close()
    assert (own, int(said), len(seen), len(set(seen))) == (EACH, EACH, 2 * EACH, 2 * EACH)
    assert {(name[0], credential) for name, credential in seen} == {
        ("a", "Bearer sk-team-a-0123456789"),
        ("b", "Bearer sk-team-b-0123456789"),
    }
    order = ["node" in name for name, _ in seen]
    assert sum(one != other for one, other in pairwise(order)) > 10  # they did run side by side
