"""The wire's own stories once more, with TLS between the client and us, on both loops: nothing must be different."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import pytest

from proxy.testkit import RawClient

from . import telling, test_answer, test_leaving, test_server, test_splice, test_timeout, test_upload
from .authority import Authority
from .test_loops import name

SCENARIOS: list[Callable[[], Coroutine[Any, Any, None]]] = [
    partial(test_answer.test_answers_without_a_body_leave_the_connection_in_step, False),
    partial(test_answer.test_an_answer_that_runs_until_the_close_reaches_both_kinds_of_client, b"1.0"),
    test_answer.test_chunks_are_unwrapped_for_a_client_of_http_1_0,
    test_answer.test_a_client_of_http_1_0_may_keep_its_connection,
    test_answer.test_a_chunked_answer_passes_piece_by_piece,
    test_upload.test_an_early_refusal_stops_the_upload_and_is_delivered,
    test_upload.test_an_early_success_lets_the_upload_go_on,
    test_upload.test_100_continue_goes_out_when_the_body_is_wanted,
    test_upload.test_a_refusal_never_invites_the_body,
    test_upload.test_a_declared_length_over_the_limit_is_refused_before_anything_is_sent,
    partial(test_upload.test_a_slow_upstream_stops_the_clients_upload, "counted"),
    test_timeout.test_a_head_half_sent_is_answered_with_408,
    test_timeout.test_a_silent_connection_is_closed_without_a_word,
    partial(test_timeout.test_a_body_that_stands_still_is_answered_with_408, telling.post(9), False),
    partial(test_leaving.test_when_the_client_leaves_upstream_is_hung_up_on, test_leaving.before_the_head, "fin"),
    partial(test_leaving.test_when_the_client_leaves_upstream_is_hung_up_on, test_leaving.in_the_body, "rst"),
    partial(test_leaving.test_work_that_keeps_going_is_finished_without_its_client, test_leaving.in_the_body, "rst"),
    test_leaving.test_a_client_that_leaves_while_we_do_not_read_from_it_is_noticed,
    test_leaving.test_a_client_that_leaves_after_its_answer_has_not_left,
    test_splice.test_a_client_that_takes_nothing_stops_the_upstream_and_goes_on_where_it_stood,
    test_server.test_forty_pipelined_requests_are_answered_in_order,
    test_server.test_a_request_may_come_byte_by_byte,
    test_server.test_a_request_whose_body_never_ends_does_not_hold_up_the_stop,
]
MODULES: list[ModuleType] = [test_answer, test_leaving, test_server, test_splice, test_timeout, test_upload]


def speaking(context: ssl.SSLContext) -> type[RawClient]:
    """Clients that speak TLS."""

    class Speaking(RawClient):
        async def __aenter__(self) -> Self:
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._window is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._where))
            self.reader, self.writer = await asyncio.open_connection(
                sock=sock, limit=self._window or 2**20, ssl=context, server_hostname="127.0.0.1"
            )
            return self

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            self.writer.close()
            with suppress(OSError):  # asyncio's client takes what still comes behind its farewell for a fault
                await self.writer.wait_closed()

    return Speaking


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_with_tls(
    scenario: Callable[[], Coroutine[Any, Any, None]], loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    pem = authority.pair("127.0.0.1")
    served = 0

    def config(*upstream: Any, server: str = "", **rest: Any) -> str:
        nonlocal served
        served += 1
        return telling.config(*upstream, server=f'certificate = "{pem}"\nprivate_key = "{pem}"\n{server}', **rest)

    for module in MODULES:
        monkeypatch.setattr(module, "config", config)
        monkeypatch.setattr(module, "RawClient", speaking(authority.client()))
    factory = None
    if loop == "uvloop":
        factory = pytest.importorskip(
            "uvloop", reason="uvloop is not installed here; the extra 'speed' brings it"
        ).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario())
    assert served
