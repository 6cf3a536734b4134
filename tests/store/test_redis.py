"""What Redis alone can do to us: be gone, come back empty, stall, turn into a replica, answer late or somebody else."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

import pytest

from proxy.model.quota import LEASE, Claim, Line, Settle, Tally
from proxy.model.store import Add, StoreError
from proxy.store import redis_link
from proxy.store.redis import RedisStore
from proxy.testkit import TurnedClock

from ..redis_server import RedisServer
from .conftest import Door, took
from .slow import SlowProxy

IMAGES = Line("key:a images 1m", 5, window=60_000)
SLOTS = Line("key:a concurrent", 2)


async def level(store: RedisStore, line: Line) -> int:
    answer = (await store.tally(Tally("looks", [Claim("", [line], [0])]))).answers[0]
    assert answer is not None
    return answer.levels[0]


# --- gone, and back


async def test_comes_back_by_itself_when_redis_does(own_server: RedisServer, door: Door) -> None:
    store = door(own_server.url)
    await store.put("keys", "a", b"1")
    own_server.stop()
    for _ in range(3):
        with pytest.raises(StoreError) as told:
            await store.get("keys", "a")
        assert (told.value.code, told.value.status) == ("database_operation_failed", 503)
        assert told.value.message == "The store could not be read or written."
    own_server.start()
    assert await store.get("keys", "a") is None  # it kept nothing
    assert await store.put("keys", "a", b"2", new=True)


async def test_a_restart_between_two_calls_is_not_noticed(own_server: RedisServer, door: Door) -> None:
    store = door(own_server.url)
    assert await took(store, "1", IMAGES, 5)
    own_server.stop()
    own_server.start()
    while not await store._link._idle[0].can_read():  # until the loop has seen that it was hung up
        await asyncio.sleep(0.001)
    assert await took(store, "2", IMAGES, 5)


async def test_what_was_flushed_is_counted_when_it_is_settled(own_server: RedisServer, door: Door) -> None:
    store = door(own_server.url)
    assert await took(store, "1", IMAGES, 4)
    own_server.ask("FLUSHALL")
    own_server.ask("SCRIPT", "FLUSH")
    await store.tally(Tally("one", [Settle("1", [IMAGES], [3])]))
    await store.tally(Tally("one", [Settle("1", [IMAGES], [3])]))
    assert await level(store, IMAGES) == 3


@pytest.mark.parametrize("stalled", ["stopped", "paused", "unreachable"])
async def test_no_call_takes_longer_than_its_time(own_server: RedisServer, door: Door, stalled: str) -> None:
    store = door(own_server.url, timeout=0.3)
    while True:  # on a busy machine even the first may be too late
        try:
            await store.put("keys", "a", b"1")
            break
        except StoreError:
            pass
    if stalled == "stopped":
        own_server.pause()
    elif stalled == "paused":
        own_server.ask("CLIENT", "PAUSE", 1500)
    else:
        store = door("redis://198.51.100.1:6379", timeout=0.3)  # nobody answers there, or nobody may ask
    began = time.monotonic()
    told = await asyncio.gather(*(store.get("keys", "a") for _ in range(100)), return_exceptions=True)
    assert time.monotonic() - began < 3
    assert {one.message for one in told if isinstance(one, StoreError)} <= {redis_link.LATE, redis_link.BROKEN}
    assert all(isinstance(one, StoreError) for one in told)
    if stalled == "stopped":
        own_server.resume()
    if stalled != "unreachable":
        patient = door(own_server.url)
        assert await patient.get("keys", "a") == b"1"
        for _ in range(100):
            try:
                assert await store.get("keys", "a") == b"1"
                break
            except StoreError:
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("it did not recover")


async def test_an_answer_that_came_while_the_loop_stood_still_counts(own_server: RedisServer, door: Door) -> None:
    assert await door(own_server.url).put("keys", "a", b"1")
    store = door(own_server.url, timeout=0.3)
    while True:  # on a busy machine even the first may be too late
        try:
            await store.get("keys", "a")
            break
        except StoreError:
            pass
    asking = asyncio.ensure_future(store.get("keys", "a"))
    for _ in range(5):
        await asyncio.sleep(0)  # by then it is asked
    time.sleep(0.8)
    assert await asking == b"1"


async def test_a_replica_is_let_go_of(own_server: RedisServer, door: Door) -> None:
    store = door(own_server.url)
    await store.put("keys", "a", b"1")
    own_server.ask("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(StoreError, match="could not be read or written"):
        await store.put("keys", "a", b"2")
    with pytest.raises(StoreError, match="could not be read or written"):
        await took(store, "1", IMAGES, 1)
    assert store._link._idle == []
    own_server.ask("REPLICAOF", "NO", "ONE")
    assert await store.put("keys", "a", b"3") and await took(store, "2", IMAGES, 5)


# --- answers and those who asked


async def test_no_answer_ever_reaches_another(shared_server: RedisServer, door: Door) -> None:
    """Thousands of calls through a slow line, of which a third is cancelled and a part too late."""
    proxy = await SlowProxy(shared_server.port).start()
    dice = random.Random(9)
    filling = door(shared_server.url)
    for i in range(50):
        await filling.put("keys", str(i), b"value %d" % i)
    store = door(f"redis://127.0.0.1:{proxy.port}", timeout=0.25)
    proxy.delay = lambda: dice.choice((0.0, 0.0, 0.0, 0.0, 0.001, 0.001, 0.002, 0.3))
    right = late = cancelled = 0
    said: set[str] = set()

    async def caller(number: int) -> None:
        nonlocal right, late, cancelled
        for turn in range(60):
            i = dice.randrange(50)
            task: asyncio.Task[object]
            if turn % 3:
                task, expected = asyncio.ensure_future(store.get("keys", str(i))), b"value %d" % i
            else:
                line = Line(f"of {number}", 10**9, window=3_600_000)
                task = asyncio.ensure_future(took(store, f"{number}.{turn}", line, 1, holder=str(number)))
                expected = True  # type: ignore[assignment]
            if dice.random() < 0.33:
                await asyncio.sleep(dice.choice((0, 0, 0.0005, 0.002)))
                task.cancel()
            try:
                assert await task == expected
                right += 1
            except StoreError as error:
                said.add(error.message)
                late += 1
            except asyncio.CancelledError:
                cancelled += 1

    await asyncio.gather(*(caller(number) for number in range(40)))
    assert right + late + cancelled == 2400
    assert said <= {redis_link.LATE, redis_link.BROKEN}
    assert min(right, late, cancelled) > 50
    await proxy.stop()


async def test_a_line_that_is_cut_is_made_anew(shared_server: RedisServer, door: Door) -> None:
    proxy = await SlowProxy(shared_server.port).start()
    store = door(f"redis://127.0.0.1:{proxy.port}")
    await store.put("keys", "a", b"1")
    proxy.cut()
    await asyncio.sleep(0.05)
    assert await store.get("keys", "a") == b"1"
    proxy.going.clear()
    waiting = asyncio.ensure_future(store.get("keys", "a"))
    seen = len(proxy.seen)
    while len(proxy.seen) == seen:
        await asyncio.sleep(0.001)
    proxy.cut()
    with pytest.raises(StoreError, match="could not be read or written"):
        await waiting
    proxy.going.set()
    assert await store.get("keys", "a") == b"1"
    await proxy.stop()


async def test_an_answer_to_another_question_is_noticed(shared_server: RedisServer, door: Door) -> None:
    proxy = await SlowProxy(shared_server.port).start()
    store = door(f"redis://127.0.0.1:{proxy.port}")
    await store.put("keys", "a", b"1")
    await store.put("keys", "b", b"2")
    await store.get("keys", "a")
    proxy.instead = [proxy.seen[-1]]  # what was said of a
    opened = proxy.opened
    with pytest.raises(StoreError, match="another question"):
        await store.get("keys", "b")
    assert await store.get("keys", "b") == b"2"
    assert proxy.opened == opened + 1
    await proxy.stop()


async def test_what_was_said_unasked_makes_a_connection_unfit(shared_server: RedisServer, door: Door) -> None:
    proxy = await SlowProxy(shared_server.port).start()
    store = door(f"redis://127.0.0.1:{proxy.port}")
    await store.put("keys", "a", b"1")
    await store.get("keys", "a")
    proxy.instead = [proxy.seen[-1] * 2]
    with pytest.raises(StoreError, match="another question"):
        await store.get("keys", "a")
    proxy.instead = []
    assert await store.get("keys", "a") == b"1"
    await proxy.stop()


async def test_who_is_cancelled_leaves_the_connection_in_order(shared_server: RedisServer, door: Door) -> None:
    proxy = await SlowProxy(shared_server.port).start()
    store = door(f"redis://127.0.0.1:{proxy.port}")
    await store.put("keys", "a", b"1")
    proxy.going.clear()
    task = asyncio.ensure_future(store.get("keys", "a"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    proxy.going.set()
    assert await store.get("keys", "a") == b"1"
    await store.aclose()
    assert proxy.opened <= 2
    await proxy.stop()


# --- claims whose answers were lost


async def test_what_is_asked_again_after_a_lost_answer_counts_once(
    shared_server: RedisServer, door: Door, clock: TurnedClock
) -> None:
    proxy = await SlowProxy(shared_server.port).start()
    looks = door(shared_server.url)
    store = door(f"redis://127.0.0.1:{proxy.port}")

    async def lost(asked: Tally) -> None:
        seen = len(proxy.seen)
        proxy.going.clear()
        asking = asyncio.ensure_future(store.tally(asked))
        while len(proxy.seen) == seen:
            await asyncio.sleep(0.001)
        proxy.cut()
        with pytest.raises(StoreError):
            await asking
        proxy.going.set()

    await store.tally(Tally("one", []))  # the script is known
    await lost(Tally("one", [Claim("1", [IMAGES, SLOTS], [4, 1])]))
    assert (await level(looks, IMAGES), await level(looks, SLOTS)) == (4, 1)
    assert await took(store, "1", IMAGES, 4)
    assert await level(looks, IMAGES) == 4
    await lost(Tally("one", [Settle("1", [IMAGES, SLOTS], [2, 0])]))
    for _ in range(3):
        await store.tally(Tally("one", [Settle("1", [IMAGES, SLOTS], [2, 0])]))
        assert (await level(looks, IMAGES), await level(looks, SLOTS)) == (2, 0)
    # Even by one who was taken for dead meanwhile.
    await lost(Tally("one", [Settle("2", [IMAGES], [1])]))
    clock.turn(LEASE + 1)
    assert await level(looks, IMAGES) == 3
    await store.tally(Tally("one", [Settle("2", [IMAGES], [1])]))
    assert await level(looks, IMAGES) == 3
    await proxy.stop()


async def test_a_claim_that_its_own_settlement_overtook_takes_nothing(shared_server: RedisServer, door: Door) -> None:
    proxy = await SlowProxy(shared_server.port).start()
    slow, store = door(f"redis://127.0.0.1:{proxy.port}", timeout=0.2), door(shared_server.url)
    asked = Tally("one", [Claim("1", [SLOTS], [2])])
    proxy.going.clear()  # it is given up: nobody knows when it will be done
    with pytest.raises(StoreError):
        await slow.tally(asked)
    proxy.going.set()
    done = 0
    while done < 3:  # the settlement of what was in doubt is not forgotten at the next call
        with suppress(StoreError):  # a busy machine
            await slow.tally(Tally("one", [Settle("1", [SLOTS], [0])]))
            done += 1
    await store.tally(asked)  # here it comes, late
    assert await level(store, SLOTS) == 0
    await proxy.stop()


async def test_settled_claims_are_forgotten_once_it_is_known_that_they_are(
    shared_server: RedisServer, door: Door, prefix: str
) -> None:
    store = door(shared_server.url)
    for i in range(20):
        await took(store, str(i), SLOTS, 1)
        await store.tally(Tally("one", [Settle(str(i), [SLOTS], [0])]))
    held = f"{{{prefix}}}:held:one"
    assert shared_server.ask("HLEN", held) == 1
    await store.tally(Tally("one", []))
    assert shared_server.ask("EXISTS", held) == 0


async def test_calls_of_one_holder_at_once_forget_nothing_twice(shared_server: RedisServer, door: Door) -> None:
    store = door(shared_server.url)
    line = Line("many", 10**6)

    async def one(i: int) -> None:
        assert await took(store, str(i), line, 1)
        await store.tally(Tally("one", [Settle(str(i), [line], [0])]))
        await store.tally(Tally("one", [Settle(str(i), [line], [0])]))

    await asyncio.gather(*(one(i) for i in range(100)))
    assert await level(store, line) == 0


# --- keys in Redis


async def test_what_counts_no_more_leaves_nothing_behind(
    shared_server: RedisServer, door: Door, clock: TurnedClock, prefix: str
) -> None:
    store = door(shared_server.url)
    await took(store, "1", IMAGES, 1)
    await took(store, "2", SLOTS, 1)
    key = f"{{{prefix}}}:limit:"
    day = 86_400_000
    assert day + 60_000 < shared_server.ask("PTTL", key + IMAGES.counter) <= day + 62_000
    assert shared_server.ask("PTTL", key + SLOTS.counter) == -1
    clock.turn(LEASE + 1)
    await store.tally(Tally("other", []))
    assert shared_server.ask("EXISTS", key + SLOTS.counter) == 0
    assert shared_server.ask("EXISTS", f"{{{prefix}}}:held:one") == 0
    for i in range(60):
        await store.put("keys", f"{i}", b"x", ttl=1)
        await store.add(Add(f"{i}", 1, ttl=1))
    clock.turn(2)
    for _ in range(2):
        await store.put("keys", "one more", b"x")
        await store.add(Add("one more", 1))
    assert shared_server.ask("HLEN", f"{{{prefix}}}:records:keys") == 1
    assert shared_server.ask("HLEN", f"{{{prefix}}}:counters") == 1
    found = shared_server.ask("KEYS", "*")
    assert {one for one in found if prefix.encode() + b"}" in one} == {
        one for one in found if one.startswith(f"{{{prefix}}}:".encode())
    }


async def test_time_is_the_servers_own_unless_a_test_turns_it(
    shared_server: RedisServer, door: Door, clock: TurnedClock
) -> None:
    clock.turn(-5000)
    store = door(shared_server.url, testing=False)
    seconds, micros = shared_server.ask("TIME")
    before = int(seconds) * 1000 + int(micros) // 1000
    now = (await store.tally(Tally("one", []))).now
    assert before <= now < before + 20_000
    await store.put("keys", "a", b"1", ttl=100)
    assert await store.get("keys", "a") == b"1"


async def test_numbers_are_exact_as_far_as_a_double_is(store: RedisStore, opened: object) -> None:
    most = 2**53 - 1
    line = Line("dear", most, until=10**13)
    assert (await store.add(Add("a", most))).values == (most,)
    answer = (await store.tally(Tally("one", [Claim("1", [line], [most - 1]), Claim("2", [line], [2])]))).answers
    assert [(one.taken, one.levels) for one in answer if one] == [(True, (most - 1,)), (False, (most - 1,))]
    with pytest.raises(Exception):  # noqa: B017, PT011 - each store has words of its own
        await store.add(Add("a", 2**80))
