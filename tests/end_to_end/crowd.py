"""Many clients of several workers, who know which worker has taken each of their connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from proxy.testkit import RawClient

ASK = b"GET /v1/models HTTP/1.1\r\nHost: me\r\n%b\r\n"
PATIENCE = 200  # connections until every worker has taken one


async def asked(client: RawClient, extra: bytes = b"") -> tuple[int, str]:
    """The process that answers on this connection, and the word of its config."""
    answer = await client.ask(ASK % extra)
    assert answer.status == 200, answer
    return int(answer.get(b"x-pid") or b""), (answer.get(b"x-word") or b"").decode()


class Crowd:
    """Kept connections, by the process that has taken them."""

    def __init__(self, where: int | str) -> None:
        self.of: dict[int, list[RawClient]] = {}
        self._where = where
        self._stack = AsyncExitStack()

    async def until(self, enough: Callable[[], bool], extra: bytes = b"") -> None:
        """Open more."""
        for _ in range(PATIENCE):
            if enough():
                return
            client = await self._stack.enter_async_context(RawClient(self._where))
            pid, _ = await asked(client, extra)
            self.of.setdefault(pid, []).append(client)
        raise AssertionError({pid: len(clients) for pid, clients in self.of.items()})

    async def forget(self, pid: int) -> None:
        """That process has ended, and its connections with it."""
        for client in self.of.pop(pid):
            assert await client.ended() == b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def crowd(where: int | str, workers: int = 2, each: int = 1, extra: bytes = b"") -> AsyncIterator[Crowd]:
    """At least that many connections with each of the workers."""

    def enough() -> bool:
        return len(made.of) == workers and all(len(clients) >= each for clients in made.of.values())

    async with Crowd(where) as made:
        await made.until(enough, extra)
        yield made


@asynccontextmanager
async def load(port: int, kept: Sequence[RawClient]) -> AsyncIterator[list[str]]:
    """Ask all the while, on kept connections and on new ones. Every answer must be a 200; their words."""
    words: list[str] = []
    over = False

    async def on(client: RawClient) -> None:
        while not over:
            words.append((await asked(client))[1])

    async def anew() -> None:
        while not over:
            async with RawClient(port) as client:
                words.append((await asked(client))[1])

    tasks = [asyncio.create_task(one) for one in (*map(on, kept), anew(), anew())]
    try:
        yield words
    finally:
        over = True
        await asyncio.gather(*tasks)
