"""An upstream with limits: bursts wait in order, in vain nobody waits, and whatever was held comes back."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from plugins.failover import Failover
from proxy.api import CALLER, Caller, Exchange, Forward, Plugin, Request, Response, StoreError, UpstreamError
from proxy.core.config import QueueTable, load
from proxy.core.gate import LOOK
from proxy.model.quota import Bound, Bounds, Line, Tally
from proxy.store.sqlite import SQLiteStore
from proxy.telemetry.log import ExchangeLog, make
from proxy.testkit import Asked, Played, Playing, Stage, TurnedClock, answer, broken

DRAW = "POST /v1/images/generations"
PICTURE = {"created": 1, "data": [{"b64_json": "iVBORw0KGgoAAAANSUhEUg=="}]}
MAIN = '[upstreams.main]\nbase_url = "http://main.invalid/v1"\n'
LIMITED = answer(429, json={"error": {"message": "no", "type": "requests", "code": "rate_limit_exceeded"}})
SPENT = answer(429, json={"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}})


def of(limits: str, queue: str = 'wait = "10m"', name: str = "main") -> str:
    return (
        f'[upstreams.{name}]\nbase_url = "http://{name}.invalid/v1"\nlimits = {{ {limits} }}\nqueue = {{ {queue} }}\n'
    )


def asks(prompt: str, n: int = 1) -> dict[str, Any]:
    return {"model": "gpt-image-2", "prompt": prompt, "n": n}


def begin(stage: Stage, prompt: str, n: int = 1, caller: str = "", **more: Any) -> Playing:
    facts = {CALLER: Caller(caller)} if caller else None
    return stage.begin(DRAW, json=asks(prompt, n), facts=facts, **more)


def prompts(stage: Stage) -> list[str]:
    return [asked.json()["prompt"] for asked in stage.asked]


async def turned(stage: Stage, until: Callable[[], bool], step: float = 3.0, most: float = 3600.0) -> float:
    """Turn the clock until that is true, and say by how much; a little at a time, as what is held needs a pulse."""
    total = 0.0
    while not until():
        assert total < most, "it never came about"
        await quiet()
        while any(line.head is not None and line.outlook is None for line in lines(stage)):
            await asyncio.sleep(0.001)  # the first in line asks the store
        if until():
            break
        stage.clock.turn(step)
        total += step
    return total


async def quiet() -> None:
    """Let everybody who can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0.001)


@asynccontextmanager
async def staged(
    *plugins: Plugin, settings: str, holds: tuple[str, ...] = ("main",), **more: Any
) -> AsyncIterator[Stage]:
    """A stage on which nothing is held at the end."""
    async with Stage(*plugins, settings=settings, **more) as stage:
        yield stage
        for name in holds:
            assert await level(stage, f"upstream:{name}|concurrent") == 0
        assert not any(len(line) or line.head is not None for line in lines(stage))


def lines(stage: Stage) -> list[Any]:
    """Who stands before the upstreams that have a queue."""
    upstreams: Any = stage.services.upstreams
    return [inner._line for name in upstreams.names() for layer, inner in upstreams[name].layers if layer == "queue"]


async def level(stage: Stage, counter: str, window: int = 0) -> int:
    """What counts against a limit now."""
    looked = Bounds([Bound(Line(counter, 10**6, window=window), "concurrent", "upstream", "", 0.0)])
    return (await stage.services.quotas.claim("", looked, (0,))).levels[0]


class Sliding:
    """An upstream that says 429 to more than so many pictures in any minute."""

    def __init__(self, clock: TurnedClock, most: int) -> None:
        self.clock, self.most = clock, most
        self.drawn: list[tuple[float, int]] = []
        self.refused = 0

    def __call__(self, asked: Asked) -> Any:
        now, n = self.clock.now(), asked.json()["n"]
        if sum(count for at, count in self.drawn if at > now - 60) + n > self.most:
            self.refused += 1
            return LIMITED
        self.drawn.append((now, n))
        return answer(json={"data": PICTURE["data"] * n})


# --- Order


async def test_bursts_of_two_callers_wait_in_order_and_neither_hears_a_429() -> None:
    clock = TurnedClock()
    upstream = Sliding(clock, 60)
    async with staged(settings=of('images = "60 / 1m"'), upstream=upstream, clock=clock) as stage:
        plays = [begin(stage, f"{caller} {i}", caller=caller) for caller in "ab" for i in range(200)]
        took = await turned(stage, lambda: len(upstream.drawn) == 400)
        ended = [await playing for playing in plays]
        assert {played.status for played in ended} == {200} and upstream.refused == 0
        assert 6 * 60 <= took <= 6 * 66, "and no time is lost"
        order = prompts(stage)
        for caller in "ab":
            own = [prompt for prompt in order if prompt[0] == caller]
            assert own == [f"{caller} {i}" for i in range(200)], "first in, first out"
        lead = 0
        for prompt in order:
            lead += 1 if prompt[0] == "a" else -1
            assert abs(lead) <= 1, "each gets its half, of every prefix"
        assert ended[-1].headers.get("x-framegate-queue").startswith("400; waited=3")
        assert float(ended[-1].headers.get("x-framegate-overhead-ms")) < 60_000, "to wait is not our slowness"


async def test_one_with_little_goes_between_those_of_one_with_much() -> None:
    async with staged(settings=of('images = "2 / 1m"')) as stage:
        plays = [begin(stage, f"a {i}", caller="a") for i in range(6)]
        await stage.reached(2)
        plays.append(begin(stage, "b", caller="b"))
        await turned(stage, lambda: len(stage.asked) == 7)
        for playing in plays:
            assert (await playing).status == 200
        assert prompts(stage).index("b") <= 3


async def test_who_asks_for_little_does_not_overtake_who_asks_for_much() -> None:
    async with staged(settings=of('images = "10 / 1m"')) as stage:
        plays = [begin(stage, "first", 6)]
        await stage.reached(1)
        plays += [begin(stage, "much", 8), *[begin(stage, f"little {i}") for i in range(5)]]
        await quiet()
        assert prompts(stage) == ["first"]
        await turned(stage, lambda: len(stage.asked) == 7)
        for playing in plays:
            assert (await playing).status == 200
        assert prompts(stage)[:4] == ["first", "much", "little 0", "little 1"]


async def test_what_takes_nothing_of_the_limits_does_not_wait() -> None:
    async with staged(settings=of('images = "1 / 1m"')) as stage:
        first, second = begin(stage, "a"), begin(stage, "b")
        await stage.reached(1)
        assert (await stage.play("GET /v1/models")).status == 200
        talk = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
        assert (await stage.play("POST /v1/chat/completions", json=talk)).status == 200
        second.leave()
        assert (await first).status == 200
        await second


async def test_without_a_wait_nothing_is_said_of_the_queue() -> None:
    async with staged(settings=of('images = "5 / 1m", requests = "9 / 1s", concurrent = 3')) as stage:
        await stage.play(DRAW, json=asks("opens the store"))
        stage.clock.turn(2)
        played = await stage.play(DRAW, json=asks("x"))
        assert played.status == 200 and played.headers.get("x-framegate-queue") is None


async def test_an_upstream_without_limits_has_no_queue() -> None:
    async with Stage(settings=MAIN) as stage:
        assert [span.layer for span in (await stage.play(DRAW, json=asks("x"))).exchange.spans] == ["main"]


# --- In vain nobody waits


async def test_a_full_line_refuses_at_once() -> None:
    async with staged(settings=of('images = "1 / 1m"', 'length = 2, wait = "5m"')) as stage:
        begun = [begin(stage, "served")]
        await stage.reached(1)
        begun += [begin(stage, f"waits {i}") for i in range(2)]
        await quiet()
        played = await stage.play(DRAW, json=asks("too many"))
        assert (played.status, played.error["code"]) == (503, "queue_unavailable")
        assert (
            "too many requests are waiting" in played.error["message"] and "Nothing was sent" in played.error["message"]
        )
        assert played.headers.get("x-should-retry") == "true"
        assert 175 <= int(played.headers.get("retry-after")) <= 190
        assert played.headers.get("x-framegate-queue").startswith("3; expected=18")
        assert played.headers.get("x-framegate-attempts") == "main=queue-full"
        begun[1].leave()
        await begun[1]
        await quiet()
        begun.append(begin(stage, "has a place now"))
        await turned(stage, lambda: len(stage.asked) == 3)
        assert [(await playing).status for playing in (begun[0], *begun[2:])] == [200, 200, 200]
        assert prompts(stage) == ["served", "waits 1", "has a place now"]


async def test_a_burst_for_which_there_is_room_upstream_needs_none_in_the_line() -> None:
    async with staged(settings=of('images = "9 / 1m"', "length = 1")) as stage:
        begun = [begin(stage, str(i)) for i in range(12)]
        refused = [await begun[i] for i in (10, 11)]
        assert [played.error["code"] for played in refused] == ["queue_unavailable"] * 2 and len(stage.asked) == 9
        begun[9].leave()
        for playing in begun[:10]:
            await playing


async def test_one_caller_can_not_fill_the_line_for_all() -> None:
    async with staged(settings=of('images = "1 / 1m"', 'length = 4, wait = "9m"')) as stage:
        begun = [begin(stage, "a 0", caller="a")]
        await stage.reached(1)
        begun += [begin(stage, f"a {i}", caller="a") for i in range(1, 5)]
        await quiet()
        assert (await stage.play(DRAW, json=asks("a 5"), facts={CALLER: Caller("a")})).status == 503
        begun.append(begin(stage, "b", caller="b"))
        assert (await begun[4]).error["code"] == "queue_unavailable"
        await turned(stage, lambda: len(stage.asked) == 5)
        assert [(await playing).status for playing in begun] == [200, 200, 200, 200, 503, 200]
        assert prompts(stage).index("b") <= 2


async def test_to_wait_for_a_slot_does_not_keep_the_store_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    tally, asked = SQLiteStore.tally, 0

    async def counting(self: SQLiteStore, told: Tally) -> Any:
        nonlocal asked
        asked += 1
        return await tally(self, told)

    monkeypatch.setattr(SQLiteStore, "tally", counting)
    hold = asyncio.Event()
    async with staged(settings=of("concurrent = 1"), upstream=answer(wait=hold)) as stage:
        begun = [begin(stage, str(i)) for i in range(2)]
        await stage.reached(1)
        await quiet()
        before = asked
        for _ in range(20):
            stage.clock.turn(LOOK / 2)
            await quiet()
        assert 5 <= asked - before <= 20, "ten times a second, and not all the time"
        hold.set()
        assert [(await playing).status for playing in begun] == [200, 200]


async def test_who_would_wait_too_long_is_refused_at_once() -> None:
    async with staged(settings=of('images = "2 / 1m"', 'wait = "90s"')) as stage:
        begun = [begin(stage, str(i)) for i in range(6)]
        refused = [await begun[i] for i in (4, 5)]
        assert [played.error["code"] for played in refused] == ["queue_unavailable"] * 2
        assert all(115 <= int(played.headers.get("retry-after")) <= 125 for played in refused)
        assert len(stage.asked) == 2
        played = await stage.play(DRAW, json=asks("too late"))
        assert (played.status, len(stage.asked)) == (503, 2)
        await turned(stage, lambda: len(stage.asked) == 4)
        assert [(await playing).status for playing in begun[:4]] == [200] * 4


async def test_the_deadline_counts_as_well() -> None:
    route = '[[routes]]\nmatch = "* /v1/*"\ndeadline = "30s"\n'
    async with staged(settings=of('images = "1 / 1m"') + route) as stage:
        first = await stage.play(DRAW, json=asks("a"))
        second = await stage.play(DRAW, json=asks("b"))
        assert (first.status, second.status, second.error["code"]) == (200, 503, "queue_unavailable")
        assert 59 <= int(second.headers.get("retry-after")) <= 62


async def test_a_wait_that_could_not_be_foretold_ends_in_time() -> None:
    hold = asyncio.Event()
    async with staged(settings=of("concurrent = 1", 'wait = "20s"'), upstream=answer(wait=hold)) as stage:
        first, second = begin(stage, "a"), begin(stage, "b")
        await stage.reached(1)
        took = await turned(stage, lambda: second.over)
        assert 18 <= took <= 24
        played = await second
        assert (played.status, played.error["code"]) == (503, "queue_unavailable")
        hold.set()
        assert (await first).status == 200


async def test_what_would_never_fit_is_refused_and_not_to_be_tried_again() -> None:
    async with staged(settings=of('images = "3 / 1m"')) as stage:
        played = await stage.play(DRAW, json=asks("x", 4))
        assert (played.status, played.error["code"], played.error["retryable"]) == (503, "queue_unavailable", False)
        assert (played.headers.get("x-should-retry"), played.headers.get("retry-after")) == ("false", None)
        assert stage.asked == []


@pytest.mark.parametrize("n", [-1, 10**9, "4", True, 0])
async def test_a_hostile_n_is_refused_and_counts_for_nothing(n: Any) -> None:
    async with staged(settings=of('images = "3 / 1m"')) as stage:
        played = await stage.play(DRAW, json={"model": "gpt-image-2", "prompt": "x", "n": n})
        assert (played.status, stage.asked) == (400, [])
        assert await level(stage, "upstream:main|images|60000", 60_600) == 0


# --- Who leaves


async def test_who_leaves_the_line_frees_the_place() -> None:
    async with staged(settings=of('images = "1 / 1m"')) as stage:
        begun = [begin(stage, str(i)) for i in range(4)]
        await stage.reached(1)
        begun[1].leave()  # the first in line, who keeps the time
        begun[2].leave()  # one who only stands there
        await begun[1]
        await begun[2]
        assert 60 <= await turned(stage, lambda: len(stage.asked) == 2) <= 66
        assert [(await begun[i]).status for i in (0, 3)] == [200, 200]
        assert prompts(stage) == ["0", "3"]


async def test_all_may_leave_at_any_moment_and_nothing_is_held() -> None:
    hold = asyncio.Event()
    async with staged(settings=of("concurrent = 3"), upstream=answer(wait=hold)) as stage:
        for ticks in range(25):
            begun = [begin(stage, str(i), caller="ab"[i % 2]) for i in range(8)]
            for _ in range(ticks * 3):
                await asyncio.sleep(0)
            for playing in begun:
                playing.leave()
            for playing in begun:
                try:
                    await playing
                except ValueError:  # it left before the server had read its request
                    continue
            await quiet()
            assert await level(stage, "upstream:main|concurrent") == 0
            assert not any(len(line) or line.head is not None for line in lines(stage))
        hold.set()


# --- Slots


async def test_a_slot_is_held_to_the_end_of_the_body() -> None:
    ends = [asyncio.Event() for _ in range(2)]
    pieces = [answer(pieces=[b"a", end, b"b"]) for end in ends]
    async with staged(settings=of("concurrent = 1"), upstream=[*pieces, answer()]) as stage:
        begun = [begin(stage, str(i)) for i in range(3)]
        for i in range(2):
            await begun[i].heard(1)
            await quiet()
            assert len(stage.asked) == i + 1, "its head is out, and its body is not"
            ends[i].set()
            assert (await begun[i]).body == b"ab"
        assert (await begun[2]).status == 200
        assert (await begun[2]).headers.get("x-framegate-queue").startswith("3; waited=")


async def test_a_slot_comes_back_when_the_answer_breaks_or_the_client_leaves() -> None:
    never = asyncio.Event()
    script = [
        answer(pieces=[b"a", broken()]),
        answer(pieces=[b"a", never]),
        UpstreamError("reset", sent=True),
        answer(),
    ]
    async with staged(settings=of("concurrent = 1"), upstream=script) as stage:
        begun = [begin(stage, str(i)) for i in range(4)]
        assert not (await begun[0]).whole
        await begun[1].heard(1)
        begun[1].leave()
        await begun[1]
        assert (await begun[2]).status == 502
        assert (await begun[3]).status == 200


async def test_never_more_at_once_than_allowed() -> None:
    now = most = 0

    async def script(asked: Asked) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        return answer()

    async with staged(settings=of("concurrent = 4"), upstream=script) as stage:
        begun = [begin(stage, str(i), caller="abc"[i % 3]) for i in range(40)]
        assert {(await playing).status for playing in begun} == {200}
        assert most == 4


class Asking(Plugin):
    """Asks beside the request, and reads the answer in its own time."""

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        side = await self.upstreams.call("side", Request("POST", "/v1/moderations", request.headers))
        self.open.set()
        await self.go.wait()
        self.heard = await side.body.read(99)
        return await forward(request)

    @asynccontextmanager
    async def running(self, services: Any) -> AsyncIterator[None]:
        self.upstreams, self.open, self.go = services.upstreams, asyncio.Event(), asyncio.Event()
        yield


async def test_a_call_of_a_plugins_own_holds_its_slot_to_the_end_of_its_answer() -> None:
    plugin = Asking()
    script = {"main": answer(), "side": answer(pieces=[b"a", b"b"])}
    settings = MAIN + of("concurrent = 1", name="side")
    async with staged(plugin, settings=settings, upstream=script, holds=("side",)) as stage:
        playing = stage.begin(DRAW, json=asks("x"))
        await plugin.open.wait()
        assert await level(stage, "upstream:side|concurrent") == 1
        plugin.go.set()
        assert (await playing).status == 200 and plugin.heard == b"ab"


# --- What is given back, and what is learnt


async def test_what_was_never_sent_and_what_was_refused_is_given_back() -> None:
    script = [UpstreamError("refused", sent=False), SPENT, UpstreamError("reset", sent=True), answer()]
    async with staged(settings=of('images = "6 / 1m", requests = "9 / 1m"'), upstream=script) as stage:
        counted = []
        for i in range(4):
            await stage.play(DRAW, json=asks(str(i), 2))
            counted.append(await level(stage, "upstream:main|images|60000", 60_600))
        assert counted == [0, 0, 2, 4]
        assert not [line for line in stage.log if line["event"] == "upstream_limits_lowered"], (
            "an empty purse is no 429"
        )


async def test_what_comes_back_while_the_first_is_asking_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    tally, hold, go, asking = SQLiteStore.tally, asyncio.Event(), asyncio.Event(), asyncio.Event()
    go.set()

    async def slow(self: SQLiteStore, told: Tally) -> Any:
        answered = await tally(self, told)
        asking.set()
        await go.wait()
        return answered

    monkeypatch.setattr(SQLiteStore, "tally", slow)
    refused = answer(429, json={}, wait=hold)
    async with staged(settings=of('images = "1 / 1m"'), upstream=[refused, answer(json=PICTURE)]) as stage:
        first = begin(stage, "a")
        await stage.reached(1)
        await quiet()
        go.clear()
        asking.clear()
        second = begin(stage, "b")
        await asking.wait()  # there is no room, and it does not know that yet
        hold.set()
        assert (await first).status == 429
        go.set()
        assert (await second).status == 200, "without a minute's wait"


async def test_a_refusal_below_the_limits_lowers_them_for_a_while() -> None:
    script = [LIMITED, *[answer(json=PICTURE)] * 40]
    async with staged(settings=of('images = "10 / 5m", requests = "900 / day"'), upstream=script) as stage:
        assert (await stage.play(DRAW, json=asks("x"))).status == 429
        lowered = [line for line in stage.log if line["event"] == "upstream_limits_lowered"]
        assert [(line["upstream"], line["share"]) for line in lowered] == [("main", 0.8)]
        begun = [begin(stage, str(i)) for i in range(16)]
        await stage.reached(9)
        await quiet()
        assert len(stage.asked) == 9, "eight of ten"
        await turned(stage, lambda: len(stage.asked) > 9, step=1.0)
        await quiet()
        assert len(stage.asked) == 11, "a minute later it is ten again: two more, before the eight come back"
        await turned(stage, lambda: len(stage.asked) == 17)
        for playing in begun:
            assert (await playing).status == 200
        assert [line["event"] for line in stage.log if line["event"].startswith("upstream_limits")] == [
            "upstream_limits_lowered",
            "upstream_limits_back",
        ]


# --- With failover


TWO = {"a": answer(json=PICTURE), "b": answer(json={"data": PICTURE["data"] * 2})}


def names(stage: Stage) -> list[str]:
    return [asked.upstream for asked in stage.asked]


async def test_what_would_wait_too_long_goes_to_the_next_upstream_at_once() -> None:
    settings = of('images = "1 / 1m"', 'wait = "30s"', "a") + of('images = "5 / 1m"', name="b")
    async with staged(Failover(), settings=settings, upstream=TWO, holds=("a", "b")) as stage:
        first = await stage.play(DRAW, json=asks("x"))
        second = await stage.play(DRAW, json=asks("x"))
        third = await stage.play(DRAW, json=asks("x"))
        assert [played.status for played in (first, second, third)] == [200, 200, 200]
        assert names(stage) == ["a", "b", "b"]
        assert third.headers.get("x-framegate-attempts") == "a=queue-late, b=200"
        assert not [line for line in stage.log if line["event"] in ("upstream_benched", "upstream_limits_lowered")]
        stage.clock.turn(63)
        assert (await stage.play(DRAW, json=asks("x"))).headers.get("x-framegate-upstream") == "a", "nothing rests"


async def test_where_all_lines_are_too_long_the_client_hears_the_shortest_wait() -> None:
    settings = of('images = "1 / 5m"', 'wait = "30s"', "a") + of('images = "1 / 1m"', 'wait = "30s"', "b")
    async with staged(Failover(), settings=settings, upstream=TWO, holds=("a", "b")) as stage:
        for _ in range(2):
            assert (await stage.play(DRAW, json=asks("x"))).status == 200
        played = await stage.play(DRAW, json=asks("x"))
        assert (played.status, played.error["code"]) == (503, "queue_unavailable")
        assert 59 <= int(played.headers.get("retry-after")) <= 62
        assert played.headers.get("x-should-retry") == "true"
        assert played.headers.get("x-framegate-attempts") == "a=queue-late, b=queue-late"
        assert names(stage) == ["a", "b"]


async def test_an_attempt_that_failed_holds_no_slot_while_the_next_is_made() -> None:
    hold = asyncio.Event()
    down = answer(
        500,
        pieces=[b'{"error":', b'{"message":"no","type":"server_error"}}'],
        headers={"content-type": "application/json"},
    )
    settings = of("concurrent = 1", name="a") + of("concurrent = 9", name="b")
    upstream: Mapping[str, Any] = {"a": down, "b": answer(json=PICTURE, wait=hold)}
    async with staged(Failover(), settings=settings, upstream=upstream, holds=("a", "b")) as stage:
        playing = begin(stage, "x")
        await stage.reached(2)
        assert [await level(stage, f"upstream:{name}|concurrent") for name in "ab"] == [0, 1]
        hold.set()
        assert (await playing).status == 200


# --- Several processes, and a store that fails


async def test_two_processes_on_one_store_share_the_limits(tmp_path: Path) -> None:
    clock = TurnedClock()
    upstream = Sliding(clock, 10)
    settings = of('images = "10 / 1m"') + f'[store]\nurl = "sqlite:{tmp_path}/x.db"\n'
    async with (
        staged(settings=settings, upstream=upstream, clock=clock) as one,
        staged(settings=settings, upstream=upstream, clock=clock) as two,
    ):
        begun = [begin(stage, str(i)) for stage in (one, two) for i in range(20)]
        await turned(one, lambda: len(upstream.drawn) == 40)
        assert {(await playing).status for playing in begun} == {200}
        assert upstream.refused == 0
        assert all(prompts(stage) == [str(i) for i in range(20)] for stage in (one, two)), "in order in each"


async def test_a_slot_that_another_process_gives_back_is_seen_soon(tmp_path: Path) -> None:
    ends = asyncio.Event()
    settings = of("concurrent = 1") + f'[store]\nurl = "sqlite:{tmp_path}/x.db"\n'
    clock = TurnedClock()
    async with (
        staged(settings=settings, upstream=answer(wait=ends), clock=clock) as one,
        staged(settings=settings, clock=clock) as two,
    ):
        first = begin(one, "a")
        await one.reached(1)
        second = begin(two, "b")
        await quiet()
        assert two.asked == []
        ends.set()
        assert (await first).status == 200
        await turned(two, lambda: len(two.asked) == 1, step=0.05, most=1.0)
        assert (await second).status == 200


async def test_without_the_store_each_process_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = SQLiteStore.tally
    down = False

    async def failing(self: SQLiteStore, asked: Tally) -> Any:
        if down:
            raise StoreError("The store is gone.")
        return await tally(self, asked)

    monkeypatch.setattr(SQLiteStore, "tally", failing)
    clock = TurnedClock()
    async with staged(settings=of('images = "2 / 1m"'), clock=clock) as stage:
        assert (await stage.play(DRAW, json=asks("x"))).status == 200
        down = True
        begun = [begin(stage, str(i)) for i in range(3)]
        await stage.reached(3)
        await quiet()
        assert len(stage.asked) == 3, "two by this process's own count, and the third waits"
        down = False
        await turned(stage, lambda: len(stage.asked) == 4)
        assert [(await playing).status for playing in begun] == [200] * 3
        assert [line["event"] for line in stage.log if line["event"].startswith("store")] == [
            "store_failing",
            "store_back",
        ]


async def test_the_log_tells_of_the_wait() -> None:
    ended: list[Played] = []
    async with staged(settings=of('images = "1 / 1m"')) as stage:
        begun = [begin(stage, str(i)) for i in range(2)]
        await turned(stage, lambda: len(stage.asked) == 2)
        ended = [await playing for playing in begun]
    raw = io.BytesIO()
    report = ExchangeLog(make("json", raw))
    report(ended[1].exchange, ended[1].outcome)
    await asyncio.sleep(0)
    assert orjson.loads(raw.getvalue())["queued"]["main"].startswith("2; waited=6")


# --- What a request takes


EDIT = (
    b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    b"\x89PNG\r\n"
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ntea\r\n'
    b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n3\r\n--x--\r\n'
)
TOOL = {"model": "gpt-5", "input": "draw", "tools": [{"type": "image_generation"}]}
TALK = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 500}


@pytest.mark.parametrize(
    ("request_line", "more", "images", "tokens"),
    [
        (DRAW, {"json": asks("x", 4)}, 4, range(1000, 100_000)),
        (
            "POST /v1/images/edits",
            {"body": EDIT, "headers": {"content-type": "multipart/form-data; boundary=x"}},
            3,
            None,
        ),
        ("POST /v1/responses", {"json": TOOL}, 1, None),
        ("POST /v1/chat/completions", {"json": TALK}, 0, range(500, 600)),
        ("GET /v1/models", {}, 0, range(1)),
        ("POST /v1/files", {"body": b"any", "headers": {"content-type": "x/y"}}, 0, range(1)),
    ],
)
async def test_what_a_request_takes_of_the_limits(
    request_line: str, more: dict[str, Any], images: int, tokens: range | None
) -> None:
    settings = of('images = "100 / 1m", tokens = "1M / 1m", requests = "9 / 1m"')
    async with staged(settings=settings, upstream=answer(json=PICTURE)) as stage:
        played = await stage.play(request_line, **more)
        assert played.status == 200
        assert await level(stage, "upstream:main|requests|60000", 60_600) == 1
        assert await level(stage, "upstream:main|images|60000", 60_600) == images
        counted = await level(stage, "upstream:main|tokens|60000", 60_600)
        assert counted > 0 if tokens is None else counted in tokens, counted


async def test_more_tokens_than_the_limit_are_sent_alone() -> None:
    async with staged(settings=of('tokens = "10 / 1m"')) as stage:
        begun = [stage.begin("POST /v1/chat/completions", json=TALK) for _ in range(2)]
        await stage.reached(1)
        assert await turned(stage, lambda: len(stage.asked) == 2) >= 57
        assert [(await playing).status for playing in begun] == [200, 200]


async def test_what_can_be_read_in_two_ways_is_refused_where_it_must_be_counted() -> None:
    async with staged(settings=of('images = "9 / 1m"')) as stage:
        twice = b'{"model":"gpt-image-2","prompt":"x","n":1,"n":9}'
        played = await stage.play(DRAW, body=twice, headers={"content-type": "application/json"})
        assert (played.status, stage.asked) == (400, [])
        assert played.headers.get("x-framegate-attempts") == "main=invalid_request"


def test_the_pages_example_holds_the_defaults(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "queue.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "framegate.toml"
    path.write_text(block)
    table = load(path, {"AZURE_KEY": "sk-azure-0123456789"}).upstreams["azure"]
    assert table.queue == QueueTable() and table.layers[0] == "queue"
