"""The wire on the other loop: what touches sockets, transports and their order of events, once more on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.testkit import ScriptedUpstream

from . import (
    test_answer,
    test_dial,
    test_leaving,
    test_link,
    test_server,
    test_timeout,
    test_tunnel,
    test_upload,
    test_websocket,
)
from .authority import Authority
from .fetch import test_asking, test_body, test_waiting
from .fetching import counted

SCENARIOS: list[Callable[[], Coroutine[Any, Any, None]]] = [
    test_link.test_answers_never_cross,
    test_link.test_one_connection_serves_one_question_after_another,
    partial(test_link.test_a_hang_up_is_noticed_before_anything_is_written, test_link.socket.socket.close),
    partial(test_link.test_a_hang_up_is_noticed_before_anything_is_written, test_link.reset),
    test_link.test_a_post_is_not_asked_twice_when_a_kept_connection_died_after_sending_but_a_get_is,
    test_link.test_a_connection_that_upstream_closes_after_each_answer_costs_nobody_an_error,
    test_link.test_an_idle_connection_that_speaks_unasked_is_dropped,
    partial(test_answer.test_answers_without_a_body_leave_the_connection_in_step, False),
    test_answer.test_large_bodies_pass_unchanged_both_ways_on_one_connection,
    test_answer.test_chunks_are_unwrapped_for_a_client_of_http_1_0,
    test_upload.test_an_early_refusal_stops_the_upload_and_is_delivered,
    test_upload.test_an_early_refusal_frees_the_connection_even_if_upstream_reads_no_further,
    test_upload.test_an_early_success_lets_the_upload_go_on,
    test_upload.test_a_refusal_never_invites_the_body,
    test_upload.test_a_refused_body_that_still_comes_is_read_off_so_that_the_client_hears_the_refusal,
    partial(test_upload.test_a_slow_upstream_stops_the_clients_upload, "counted"),
    partial(test_timeout.test_our_own_pause_is_not_the_upstreams_stall, "counted", False),
    partial(test_timeout.test_our_own_pause_is_not_the_upstreams_stall, "chunked", True),
    test_timeout.test_an_upstream_that_stops_taking_the_upload_is_given_up,
    test_timeout.test_a_head_half_sent_is_answered_with_408,
    test_timeout.test_a_silent_connection_is_closed_without_a_word,
    partial(test_leaving.test_when_the_client_leaves_upstream_is_hung_up_on, test_leaving.before_the_head, "fin"),
    partial(test_leaving.test_when_the_client_leaves_upstream_is_hung_up_on, test_leaving.in_the_body, "rst"),
    partial(test_leaving.test_work_that_keeps_going_is_finished_without_its_client, test_leaving.in_the_body, "rst"),
    test_leaving.test_work_that_keeps_going_is_finished_for_a_client_that_stalled_and_then_left,
    test_leaving.test_a_client_that_leaves_while_we_do_not_read_from_it_is_noticed,
    test_server.test_forty_pipelined_requests_are_answered_in_order,
    test_dial.test_a_refused_connection_is_asked_for_no_second_time,
    test_dial.test_a_handshake_that_never_ends_is_given_up,
    test_tunnel.test_a_grant_that_comes_byte_by_byte_is_a_grant,
    test_tunnel.test_a_proxy_that_hangs_is_given_up,
    test_tunnel.test_a_client_that_leaves_while_the_proxy_hangs_leaves_no_socket_behind,
    test_websocket.test_messages_of_every_kind_pass_both_ways,
    test_websocket.test_an_upstream_that_dies_is_a_1011,
]


def on_uvloop(scenario: Coroutine[Any, Any, None]) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed here; the extra 'speed' brings it")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def name(scenario: Any) -> str:
    if isinstance(scenario, partial):
        words = [getattr(word, "__name__", str(word)) for word in scenario.args]
        return f"{scenario.func.__name__}-{'-'.join(words)}"
    return str(scenario.__name__)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_on_uvloop(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed here; the extra 'speed' brings it")
    on_uvloop(scenario())


def test_a_verified_upstream_on_uvloop(tmp_path: Path) -> None:
    pytest.importorskip("uvloop", reason="uvloop is not installed here; the extra 'speed' brings it")
    on_uvloop(test_dial.test_a_verified_upstream_is_asked_over_one_connection("localhost", tmp_path))
    on_uvloop(test_tunnel.test_an_upstream_behind_a_proxy_is_asked_through_one_tunnel(tmp_path))


@pytest.mark.parametrize(
    "scenario",
    [
        partial(test_asking.test_a_picture_comes_from_a_public_name_as_it_is, framing="chunked"),
        test_waiting.test_the_end_of_a_generation_hangs_up,
        test_waiting.test_an_answer_that_stands_still_is_given_up,
        test_body.test_no_more_than_the_limit_comes_where_it_is_not_declared,
        partial(test_waiting.test_who_is_cancelled_hangs_up, where="before its head"),
        partial(test_body.test_half_a_picture_is_never_taken_for_a_whole, answer=test_body.CUT, reset=True),
    ],
    ids=name,
)
def test_fetching_on_uvloop(scenario: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))

    async def served() -> None:
        async with ScriptedUpstream(counted(), tls=authority.server("cdn.test")) as cdn:
            await scenario(cdn)

    pytest.importorskip("uvloop", reason="uvloop is not installed here; the extra 'speed' brings it")
    on_uvloop(served())
