"""Two thousand clients that leave in the middle: nothing of them stays, and each is accounted for once."""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.api import Exchange, Forward, Outcome, Request, Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, Served, serve

from ..plugins_for_tests import told
from .process import opened

AT_ONCE = 200
STAGES = ("head", "upload", "waiting", "answer")  # where a client leaves; as many at each
SIZE = 200_000
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
TURNS = 1000  # of the loop: what is done by then needs no clock, and what is not stays


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Both ends of every connection are in this process: allow it some thousands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def until(true: Callable[[], bool]) -> bool:
    """Let the loop turn until this is true, a bounded number of times."""
    for _ in range(TURNS):
        if true():
            return True
        await asyncio.sleep(0)
    return False


class Crowd:
    """The clients, the upstream's script and the layer that keeps bodies, in step by events alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.begun: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.outcomes: list[Outcome] = []
        self.spooled = 0
        self._reached: dict[bytes, asyncio.Event] = {}

    async def layer(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        self.begun[exchange.id] += 1

        async def finish(outcome: Outcome) -> None:
            self.finished[exchange.id] += 1
            self.outcomes.append(outcome)

        exchange.on_finish(finish)
        if request.target.startswith("/v1/head"):
            self._reached[request.target.encode()].set()
        return await forward(request.with_body(request.body.keep(memory=4096, limit=2**30)))

    async def script(self, call: Call) -> None:
        target = call.received.target
        stage = target.split(b"/")[2]
        if stage == b"warm":
            await call.body()
            await call.send(CLOSING)
            call.cut()
            return
        if stage == b"upload":
            await call.reader.readexactly(SIZE // 2)
            self.spooled = max(self.spooled, len(opened(self._folder)))
        elif stage != b"head":
            await call.body()
        if stage == b"answer":
            await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(SIZE // 2))
        if stage != b"head":
            self._reached[target].set()
        await call.gone()

    async def client(self, port: int, number: int) -> None:
        stage = STAGES[number % 4]
        target = b"/v1/%b/%d" % (stage.encode(), number)
        reached = self._reached[target] = asyncio.Event()
        async with RawClient(port) as client:
            await client.send(b"POST %b HTTP/1.1\r\nHost: me\r\nContent-Length: %d\r\n\r\n" % (target, SIZE))
            if stage != "head":
                await client.send(bytes(SIZE // 2 if stage == "upload" else SIZE))
            await reached.wait()
            if stage == "answer":
                await client.head()
                await client.reader.readexactly(SIZE // 4)
            if number % 8 < 4:
                client.reset()
        del self._reached[target]


def config(upstream: ScriptedUpstream, crowd: Crowd) -> str:
    return f"""
[upstreams.only]
base_url = "{upstream.url}"
[plugins.crowd]
use = "tests.plugins_for_tests:Told"
word = "{told(crowd.layer)}"
[[routes]]
match = "* /v1/*"
chain = ["crowd"]
"""


async def warm(served: Served) -> None:
    """One exchange in full, so that whatever is made once is there; its connections close."""
    async with RawClient(served.port) as client:
        assert (await client.ask(b"GET /v1/warm HTTP/1.1\r\nHost: me\r\n\r\n")).status == 200


@pytest.mark.parametrize("clients", [500, pytest.param(2000, marks=pytest.mark.long)])
async def test_of_many_clients_that_leave_nothing_stays(
    clients: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(tmp_path)
    async with ScriptedUpstream(script=crowd.script) as upstream, serve(config(upstream, crowd)) as served:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        await warm(served)
        live = served.house.engine.live
        assert await until(lambda: not live and not upstream.open)
        tasks, files = asyncio.all_tasks(), Counter(opened())
        crowd.begun.clear(), crowd.finished.clear(), crowd.outcomes.clear()

        numbers = iter(range(clients))

        async def some() -> None:
            for number in numbers:
                await crowd.client(served.port, number)

        await asyncio.gather(*[some() for _ in range(AT_ONCE)])
        await served.ended(clients + 1)

        assert await until(lambda: crowd.finished.total() == clients)
        assert len(crowd.begun) == len(crowd.finished) == clients
        assert set(crowd.finished.values()) == {1}, "a finisher ran twice"
        assert not any(outcome.complete for outcome in crowd.outcomes)
        assert all(outcome.left for outcome in crowd.outcomes)
        assert await until(lambda: not live), live
        assert await until(lambda: not upstream.open), f"{upstream.open} connections to the upstream"
        assert await until(lambda: asyncio.all_tasks() <= tasks), asyncio.all_tasks() - tasks
        assert await until(lambda: not Counter(opened()) - files), Counter(opened()) - files
        assert crowd.spooled > 0, "no body was spooled"
        assert opened(tmp_path) == list(tmp_path.iterdir()) == []
        await warm(served)
    print(
        f"{clients} clients left; up to {crowd.spooled} bodies lay in files at once; {upstream.connections} connections"
    )


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_of_half_heads_nothing_stays_and_nobody_hears(reset: bool, tmp_path: Path) -> None:
    crowd = Crowd(tmp_path)
    async with ScriptedUpstream(script=crowd.script) as upstream, serve(config(upstream, crowd)) as served:
        await warm(served)
        assert await until(lambda: not served.house.engine.live and not upstream.open)
        tasks, files = asyncio.all_tasks(), Counter(opened())
        head = b"POST /v1/answer/1 HTTP/1.1\r\nHost: me\r\nContent-Length: 3\r\n\r\n"
        for round_ in range(5):
            clients = [RawClient(served.port) for _ in range(100)]
            for client in clients:
                await client.__aenter__()
            for number, client in enumerate(clients):
                await client.send(head[: (round_ * 100 + number) % (len(head) - 1)])
            for client in clients:
                if reset:
                    client.reset()
                await client.__aexit__(None, None, None)
        await warm(served)  # connections are taken in their order: all of those have been, too
        assert await until(lambda: asyncio.all_tasks() <= tasks), asyncio.all_tasks() - tasks
        assert await until(lambda: not Counter(opened()) - files), Counter(opened()) - files
        assert [request.target for request in upstream.requests] == [b"/v1/warm", b"/v1/warm"]
        assert len(crowd.begun) == len(crowd.finished) == len(served.exchanges()) == 2
