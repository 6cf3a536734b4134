"""What every store promises, asked of each one that there is."""

from __future__ import annotations

import asyncio

from proxy.model.store import Add, Store
from proxy.testkit import TurnedClock

from .conftest import Open


async def test_gives_back_what_was_put(store: Store) -> None:
    assert await store.get("keys", "a") is None
    assert await store.put("keys", "a", b"\x00\xff one")
    assert await store.get("keys", "a") == b"\x00\xff one"
    assert await store.get("other", "a") is None


async def test_a_later_put_takes_the_place_of_an_earlier(store: Store) -> None:
    await store.put("keys", "a", b"1", ttl=10)
    await store.put("keys", "a", b"2")
    assert await store.get("keys", "a") == b"2"


async def test_a_record_is_gone_when_its_time_is_over(store: Store, clock: TurnedClock) -> None:
    await store.put("keys", "a", b"1", ttl=10)
    clock.turn(9)
    assert await store.get("keys", "a") == b"1"
    clock.turn(2)
    assert await store.get("keys", "a") is None
    assert await store.items("keys") == []
    assert not await store.delete("keys", "a")


async def test_new_writes_only_where_nothing_is(store: Store, clock: TurnedClock) -> None:
    assert await store.put("keys", "a", b"1", ttl=10, new=True)
    assert not await store.put("keys", "a", b"2", new=True)
    assert await store.get("keys", "a") == b"1"
    clock.turn(11)
    assert await store.put("keys", "a", b"3", new=True)
    assert await store.get("keys", "a") == b"3"


async def test_of_many_who_put_a_new_record_one_wins(opened: Open) -> None:
    first, second = await opened(), await opened()
    puts = [store.put("keys", "a", b"%d" % i, new=True) for i, store in enumerate([first, second] * 20)]
    won = [i for i, done in enumerate(await asyncio.gather(*puts)) if done]
    assert len(won) == 1 and await first.get("keys", "a") == b"%d" % won[0]


async def test_swaps_only_what_stands_as_it_was(store: Store, clock: TurnedClock) -> None:
    assert not await store.swap("keys", "a", b"", b"1")
    await store.put("keys", "a", b"1", ttl=10)
    assert not await store.swap("keys", "a", b"0", b"2") and await store.get("keys", "a") == b"1"
    assert await store.swap("keys", "a", b"1", b"2") and await store.get("keys", "a") == b"2"
    clock.turn(11)
    assert not await store.swap("keys", "a", b"2", b"3") and await store.get("keys", "a") is None


async def test_of_many_who_swap_the_same_one_wins(opened: Open) -> None:
    first, second = await opened(), await opened()
    await first.put("keys", "a", b"old")
    swaps = [store.swap("keys", "a", b"old", b"%d" % i) for i, store in enumerate([first, second] * 20)]
    assert sum(await asyncio.gather(*swaps)) == 1


async def test_deletes_once(store: Store) -> None:
    await store.put("keys", "a", b"1")
    assert await store.delete("keys", "a")
    assert not await store.delete("keys", "a")
    assert await store.get("keys", "a") is None


async def test_lists_a_space_in_order_page_by_page(store: Store) -> None:
    for name in "dbace":
        await store.put("keys", name, name.encode())
    await store.put("others", "z", b"")
    assert [key for key, _ in await store.items("keys", limit=2)] == ["a", "b"]
    assert [key for key, _ in await store.items("keys", after="b")] == ["c", "d", "e"]


async def test_text_that_looks_like_sql_is_text(store: Store) -> None:
    nasty = "a' OR '1'='1'; DROP TABLE records; --\x00%_"
    await store.put("keys", nasty, b"1")
    assert await store.get("keys", nasty) == b"1"
    assert await store.get("keys", "a") is None
    assert [key for key, _ in await store.items("keys")] == [nasty]


async def test_adds_and_never_falls_below_nothing(store: Store) -> None:
    assert (await store.add(Add("c", 5))).values == (5,)
    assert (await store.add(Add("c", -2))).values == (3,)
    assert (await store.add(Add("c", -99))).values == (0,)
    assert (await store.add(Add("c"))).values == (1,)


async def test_a_ceiling_refuses_the_whole_transaction(store: Store) -> None:
    await store.add(Add("a", 3), Add("b", 9))
    added = await store.add(Add("a", 1, ceiling=10), Add("b", 2, ceiling=10), Add("c", 1))
    assert not added.done and added.refused == 1 and added.values == (3, 9, 0)
    assert (await store.add(Add("a", 0), Add("b", 0), Add("c", 0))).values == (3, 9, 0)


async def test_giving_back_is_never_refused(store: Store) -> None:
    await store.add(Add("a", 20))
    assert (await store.add(Add("a", -1, ceiling=10))).values == (19,)


async def test_steps_on_one_counter_see_each_other(store: Store) -> None:
    assert (await store.add(Add("a", 6, ceiling=10), Add("a", 6, ceiling=10))).refused == 1
    assert (await store.add(Add("a", 5, ceiling=10), Add("a", 5, ceiling=10))).values == (10, 10)


async def test_a_counter_starts_anew_when_its_time_is_over(store: Store, clock: TurnedClock) -> None:
    await store.add(Add("a", 5, ttl=10))
    clock.turn(6)
    assert (await store.add(Add("a", 1, ttl=10))).values == (6,)
    clock.turn(6)
    assert (await store.add(Add("a", 1, ttl=10))).values == (1,)


async def test_a_renewed_counter_lives_on(store: Store, clock: TurnedClock) -> None:
    await store.add(Add("a", 1, ttl=10))
    clock.turn(6)
    await store.add(Add("a", 0, ttl=10, renew=True))
    clock.turn(6)
    assert (await store.add(Add("a", 0))).values == (1,)


async def test_a_burst_over_two_doors_never_passes_the_ceiling(opened: Open) -> None:
    doors = [await opened(), await opened()]
    answers = await asyncio.gather(*(door.add(Add("a", 1, ceiling=100)) for door in doors for _ in range(200)))
    assert sum(added.done for added in answers) == 100
    assert (await doors[0].add(Add("a", 0))).values == (100,)


async def test_a_caller_that_is_cancelled_harms_no_other(store: Store) -> None:
    tasks = [asyncio.create_task(store.add(Add("a", 1))) for _ in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.result().values[0] for task in tasks[1::2]] == sorted(task.result().values[0] for task in tasks[1::2])
    assert await store.get("keys", "a") is None
