"""Pictures of any size leave memory flat: the real process, 32 answers in flight at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path

import pytest

from proxy.testkit import Call, RawClient, ScriptedUpstream
from tests.end_to_end.process import serving
from tests.images.pictures import png

MB, MIB = 10**6, 2**20
AT_ONCE = 32
ALLOWED = 64 * MIB
CONFIG = """
[upstreams.only]
base_url = "{url}"
[plugins.rehost]
mode = "always"
[[routes]]
match = "* /v1/*"
chain = ["rehost"]
"""
ASK = (
    b"POST /v1/images/generations HTTP/1.1\r\nHost: me\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)
BEFORE, AFTER = b'{"created":1,"data":[{"b64_json":"', b'"}]}'


async def measured(size: int, folder: Path, *, rounds: int = 1) -> int:
    """How far the process grew at its peak while 32 answers of that many bytes each were in flight, in bytes."""
    piece = png(3 * 2**16)
    text = base64.b64encode(piece)
    times = size // len(text)
    begun = asyncio.Barrier(AT_ONCE)
    whole = hashlib.sha256()
    for _ in range(times):
        whole.update(piece)

    async def script(call: Call) -> None:
        await call.body()
        length = len(BEFORE) + times * len(text) + len(AFTER)
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length)
        await call.send(BEFORE + text[:4])
        await begun.wait()
        await call.send(text[4:])
        for _ in range(times - 1):
            await call.send(text)
        await call.send(AFTER)

    async def one(port: int) -> set[bytes]:
        found = set()
        async with RawClient(port) as client:
            for _ in range(rounds):
                answer = await client.ask(ASK)
                assert answer.status == 200 and len(answer.body) < 200
                name = re.search(rb"/files/[a-z2-7]{26}\.png", answer.body)
                assert name is not None, answer.body
                found.add(name[0])
        return found

    async with (
        ScriptedUpstream(script=script) as upstream,
        serving(CONFIG.replace("{url}", upstream.url), folder) as (process, port),
    ):
        async with RawClient(port) as client:
            assert (await client.ask(b"GET /readyz HTTP/1.1\r\nHost: me\r\n\r\n")).status == 200
            before = process.memory("VmRSS")
            names = list(set.union(*await asyncio.gather(*[one(port) for _ in range(AT_ONCE)])))
            grown = process.memory("VmHWM") - before
            assert len(names) == AT_ONCE * rounds
            found = await client.ask(b"GET %b HTTP/1.1\r\nHost: me\r\nRange: bytes=0-0\r\n\r\n" % names[0])
            assert found.get(b"etag") == f'"{whole.hexdigest()}"'.encode()
    print(f"{AT_ONCE} answers of {size / MB:g} MB: peak memory +{grown / MIB:.1f} MiB")
    return grown


async def test_pictures_of_8_mb(tmp_path: Path) -> None:
    assert await measured(8 * MB, tmp_path) < ALLOWED


async def test_pictures_of_1500_kb_again_and_again(tmp_path: Path) -> None:
    assert await measured(1500 * 1000, tmp_path, rounds=8) < ALLOWED


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_pictures_of_64_mb(tmp_path: Path) -> None:
    assert await measured(64 * MB, tmp_path) < ALLOWED
