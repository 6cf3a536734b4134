from __future__ import annotations

import io

from proxy.telemetry.log import make
from proxy.workers.seat import FIRST_WAIT, LONGEST_WAIT, SETTLED, Seat


def seat() -> Seat:
    return Seat(0, make("json", io.BytesIO()))


def test_a_place_whose_workers_end_at_once_is_filled_ever_more_slowly() -> None:
    one = seat()
    waits = [one.leave(100.0) for _ in range(10)]
    assert waits[:3] == [FIRST_WAIT, FIRST_WAIT * 2, FIRST_WAIT * 4]
    assert waits[-2:] == [LONGEST_WAIT, LONGEST_WAIT]
    assert (one.failures, one.due) == (10, 100.0 + LONGEST_WAIT)


def test_one_that_served_for_a_while_is_followed_at_once() -> None:
    one = seat()
    one.leave(100.0)
    one.serves(100.0)
    assert one.leave(100.0 + SETTLED - 0.1) == FIRST_WAIT * 2
    one.serves(200.0)
    assert one.leave(200.0 + SETTLED) == 0.0
    assert (one.failures, one.due, one.state) == (0, 200.0 + SETTLED, "away")
