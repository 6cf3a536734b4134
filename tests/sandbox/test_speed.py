"""That the sandbox is no brake: what a core of its own would give, from the CPU time that it took."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ..end_to_end.process import command

CHAT = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello there"}]}


def spent(pid: int) -> float:
    """Seconds of CPU that all threads of a process have taken."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in tasks) / 1e9


async def asked(session: aiohttp.ClientSession, url: str, bodies: list[dict[str, Any]]) -> int:
    """The bytes of all answers, eight asked for at a time."""
    size = 0
    waiting = iter(bodies)

    async def client() -> None:
        nonlocal size
        for body in waiting:
            async with session.post(url, json=body) as response:
                assert response.status == 200
                size += len(await response.read())

    await asyncio.gather(*(client() for _ in range(8)))
    return size


@pytest.mark.long
async def test_500_chats_a_second_and_50_megabytes_of_pictures_on_one_core(capsys: pytest.CaptureFixture[str]) -> None:
    async with command("sandbox", "--listen", "127.0.0.1:0") as process, aiohttp.ClientSession() as session:
        while "answers at " not in (line := await process.line()):
            pass
        url = line.partition("answers at ")[2].split()[0]
        await asked(session, f"{url}/chat/completions", [CHAT] * 100)
        before = spent(process.pid)
        await asked(session, f"{url}/chat/completions", [CHAT] * 3000)
        chats = 3000 / (spent(process.pid) - before)
        draw = {"model": "gpt-image-2", "quality": "high", "size": "1024x1024"}
        before = spent(process.pid)
        size = await asked(
            session, f"{url}/images/generations", [{**draw, "prompt": f"a gate, {n}"} for n in range(40)]
        )
        pictures = size / 1e6 / (spent(process.pid) - before)
    with capsys.disabled():
        print(f"\nthe sandbox on one core: {chats:.0f} chats/s, {pictures:.0f} MB/s of pictures, each drawn anew")
    assert chats >= 500 and pictures >= 50
