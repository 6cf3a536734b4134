"""Slots: found by identity, typed, and empty until somebody fills them."""

from __future__ import annotations

import pytest

from proxy.model.exchange import Client, Exchange, Outcome
from proxy.model.message import Headers, Request
from proxy.model.slots import CALLER, Caller, Slot, Slots


def test_a_slot_holds_what_was_put_into_it() -> None:
    slot: Slot[int] = Slot("n")
    slots = Slots()
    assert slot not in slots and slots.get(slot) is None and slots.get(slot, 7) == 7
    with pytest.raises(KeyError, match="n"):
        slots[slot]
    slots[slot] = 0
    assert slot in slots and slots[slot] == 0 and slots.get(slot, 7) == 0
    slots[slot] = 1
    assert slots[slot] == 1


def test_two_slots_of_one_name_are_two_slots() -> None:
    mine: Slot[int] = Slot("same")
    yours: Slot[int] = Slot("same")
    slots = Slots()
    slots[mine] = 1
    slots[yours] = 2
    assert (slots[mine], slots[yours]) == (1, 2)


def test_an_empty_slot_is_missed_by_name_even_beside_a_full_one() -> None:
    full: Slot[int] = Slot("full")
    empty: Slot[int] = Slot("empty")
    slots = Slots()
    slots[full] = 1
    assert empty not in slots and slots.get(empty) is None
    with pytest.raises(KeyError, match="empty"):
        slots[empty]


def test_an_exchange_knows_its_caller_once_somebody_says_so() -> None:
    exchange = Exchange("id", Request("GET", "/", Headers()), Client("test"))
    assert exchange.get(CALLER) is None
    exchange[CALLER] = Caller("k1", group="g")
    assert exchange[CALLER].id == "k1" and exchange[CALLER].group == "g"


async def test_finishers_are_taken_once_newest_first() -> None:
    exchange = Exchange("id", Request("GET", "/", Headers()), Client("test"))

    async def first(outcome: Outcome) -> None: ...

    async def second(outcome: Outcome) -> None: ...

    assert exchange.take_finishers() == []
    exchange.on_finish(first)
    exchange.on_finish(second)
    assert exchange.take_finishers() == [second, first]
    assert exchange.take_finishers() == []


def test_leaving_cancels_once_and_not_what_keeps_going() -> None:
    calls: list[int] = []
    exchange = Exchange("id", Request("GET", "/", Headers()), Client("test"))
    exchange.cancel = lambda: calls.append(1)
    exchange.leave()
    exchange.leave()
    assert calls == [1] and exchange.left
    kept = Exchange("id", Request("GET", "/", Headers()), Client("test"))
    kept.cancel = lambda: calls.append(2)
    kept.keep_going()
    kept.leave()
    assert calls == [1] and kept.left
