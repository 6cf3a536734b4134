"""One exchange from start to finish: its finishers, its generation, the drain."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from proxy.core.config import load
from proxy.model.errors import ProxyError
from proxy.model.exchange import Attempt
from proxy.model.message import Response
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

from ..plugins_for_tests import told
from ..wire.telling import GET, OK, POST, config, until


def asks(path: bytes) -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: me\r\n\r\n" % path


class Held:
    """An upstream's script that answers when it is let go."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        self.reached.set()
        await self.go.wait()
        await call.send(OK)


async def test_finishers_run_newest_first_and_once_even_when_one_crashes() -> None:
    ran: list[str] = []
    last = asyncio.Event()

    async def layer(exchange, request, forward) -> Response:
        async def first(outcome: object) -> None:
            ran.append("first")
            last.set()

        async def second(outcome: object) -> None:
            ran.append("second")
            raise ZeroDivisionError

        async def third(outcome: object) -> None:
            ran.append("third")

        for finisher in (first, second, third):
            exchange.on_finish(finisher)
        return await forward(request)

    async with ScriptedUpstream() as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            assert (await client.ask(GET)).status == 200
            await last.wait()
    assert ran == ["third", "second", "first"]
    crash = next(line for line in served.log if line["event"] == "finisher_crashed")
    assert crash["crash"] == "ZeroDivisionError"


@pytest.mark.parametrize("how", ["refused", "crashed", "answered"])
async def test_finishers_run_whatever_happened(how: str) -> None:
    outcomes = []
    done = asyncio.Event()

    async def layer(exchange, request, forward) -> Response:
        async def finish(outcome) -> None:
            outcomes.append(outcome)
            done.set()

        exchange.on_finish(finish)
        if how == "refused":
            raise ProxyError("No.", status=429, code="rate_limit_exceeded")
        if how == "crashed":
            raise ZeroDivisionError
        return Response(200)

    async with ScriptedUpstream() as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(GET)
            await done.wait()
    status = {"refused": 429, "crashed": 500, "answered": 200}[how]
    assert heard.status == status and len(outcomes) == 1
    assert outcomes[0].status == status and outcomes[0].complete
    assert (outcomes[0].error is None) == (how == "answered")
    assert not outcomes[0].attempts


async def test_a_finisher_outlives_the_client_and_is_waited_for_at_the_stop() -> None:
    go, ran = asyncio.Event(), asyncio.Event()

    async def layer(exchange, request, forward) -> Response:
        async def finish(outcome: object) -> None:
            await go.wait()
            ran.set()

        exchange.on_finish(finish)
        return await forward(request)

    async with ScriptedUpstream() as upstream, serve(config(upstream, layer)) as served:
        async with RawClient(served.port) as client:
            await client.ask(GET)
        asyncio.get_running_loop().call_later(0.1, go.set)
    assert ran.is_set()


async def test_health_needs_no_route_and_leaves_no_line() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        for path in (b"/livez", b"/readyz"):
            heard = await client.ask(asks(path))
            assert heard.status == 200 and heard.body == b'{"status":"ok"}'
            heard = await client.ask(asks(path).replace(b"GET", b"HEAD"), bodiless=True)
            assert heard.status == 200
        assert upstream.connections == 0 and served.log == []


async def test_at_the_stop_what_runs_ends_and_what_is_new_is_refused() -> None:
    held = Held()
    async with ScriptedUpstream(script=held) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as runs, RawClient(served.port) as late:
            await late.ask(asks(b"/livez"))
            await runs.send(GET)
            await held.reached.wait()
            stopping = asyncio.create_task(served.house.stop())
            await until(lambda: served.house.engine.draining)
            heard = await late.ask(asks(b"/readyz"))
            assert heard.status == 503 and heard.body == b'{"status":"draining"}'
            with pytest.raises(ConnectionRefusedError):
                await RawClient(int(served.url.rpartition(":")[2])).__aenter__()
            held.go.set()
            assert (await runs.answer()).body == b"{}"
            await stopping
        assert len(upstream.requests) == 1
        assert (await served.ended(1))[0]["status"] == 200


async def test_a_new_request_on_an_old_connection_is_refused_while_stopping() -> None:
    held = Held()
    async with ScriptedUpstream(script=held) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as runs, RawClient(served.port) as late:
            await late.ask(asks(b"/livez"))
            await runs.send(GET)
            await held.reached.wait()
            stopping = asyncio.create_task(served.house.stop())
            await until(lambda: served.house.engine.draining)
            heard = await late.ask(POST)
            assert heard.status == 503 and b"service_unavailable" in heard.body
            assert heard.get(b"x-should-retry") == b"true" and heard.get(b"retry-after") == b"1"
            held.go.set()
            await runs.answer()
            await stopping
        assert len(upstream.requests) == 1


async def test_idle_connections_do_not_hold_up_the_stop() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.ask(GET)
            async with asyncio.timeout(0.7):  # a connection that is waited for takes a second
                await served.house.stop()
            assert await client.ended() == b""


async def test_what_outlasts_the_drain_is_cancelled_and_finished() -> None:
    held, finished = Held(), asyncio.Event()

    async def layer(exchange, request, forward) -> Response:
        async def finish(outcome) -> None:
            assert not outcome.complete
            finished.set()

        exchange.on_finish(finish)
        return await forward(request)

    async with ScriptedUpstream(script=held) as upstream:
        async with serve(config(upstream, layer, server='drain_timeout = "0.1s"')) as served:
            client = await RawClient(served.port).__aenter__()
            await client.send(GET)
            await held.reached.wait()
        assert finished.is_set()
        assert await client.ended() == b""
        await client.__aexit__(None, None, None)


async def test_an_exchange_ends_under_the_generation_it_began_in(tmp_path) -> None:
    events: list[str] = []
    held, closed = Held(), asyncio.Event()

    def layer(name: str) -> str:
        async def running(services):
            events.append(f"{name} opened")
            yield
            events.append(f"{name} closed")
            closed.set()

        async def call(exchange, request, forward) -> Response:
            return (await forward(request)).with_headers(x_generation=name)

        return told(call, running)

    async with ScriptedUpstream(script=held) as upstream, serve(config(upstream, layer("old"))) as served:
        path = tmp_path / "new.toml"
        path.write_text(config(upstream, layer("new")))
        async with RawClient(served.port) as one, RawClient(served.port) as two:
            await one.send(GET)
            await held.reached.wait()
            await served.house.reload(load(path, {}))
            assert events == ["old opened", "new opened"]
            held.go.set()
            heard = await two.ask(GET)
            assert heard.get(b"x-generation") == b"new"
            heard = await one.answer()
            assert heard.get(b"x-generation") == b"old" and heard.body == b"{}"
            await closed.wait()
            assert events == ["old opened", "new opened", "old closed"]
    assert events[-1] == "new closed"


async def test_a_generation_waits_for_its_last_finisher_too(tmp_path) -> None:
    events: list[str] = []
    go, finishing, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def running(services):
        yield
        events.append("closed")
        closed.set()

    async def call(exchange, request, forward) -> Response:
        async def finish(outcome: object) -> None:
            finishing.set()
            await go.wait()
            events.append("finished")

        exchange.on_finish(finish)
        return await forward(request)

    async with ScriptedUpstream() as upstream, serve(config(upstream, told(call, running))) as served:
        path = tmp_path / "new.toml"
        path.write_text(config(upstream))
        async with RawClient(served.port) as client:
            await client.ask(GET)
            await finishing.wait()
            await served.house.reload(load(path, {}))
            go.set()
            await closed.wait()
    assert events == ["finished", "closed"]


async def test_a_plugin_that_can_not_start_leaves_all_as_it_was(tmp_path) -> None:
    closed: list[str] = []

    async def forwards(exchange, request, forward) -> Response:
        return await forward(request)

    async def good(services):
        yield
        closed.append("good")

    async def bad(services):
        raise OSError("no such device")
        yield

    async with ScriptedUpstream() as upstream, serve(config(upstream)) as served:
        path = tmp_path / "new.toml"
        path.write_text(config(upstream, told(forwards, good), told(forwards, bad)))
        with pytest.raises(OSError, match="no such device"):
            await served.house.reload(load(path, {}))
        assert closed == ["good"]
        async with RawClient(served.port) as client:
            assert (await client.ask(GET)).status == 200


async def test_spawned_work_is_drained_and_its_crash_is_logged() -> None:
    done = asyncio.Event()

    async def forwards(exchange, request, forward) -> Response:
        return await forward(request)

    async def running(services):
        async def works() -> None:
            await asyncio.sleep(0.05)
            done.set()

        async def crashes() -> None:
            raise ZeroDivisionError

        services.spawn(works(), name="works")
        services.spawn(crashes(), name="crashes")
        yield

    async with ScriptedUpstream() as upstream, serve(config(upstream, told(forwards, running))) as served:
        pass
    assert done.is_set()
    crash = next(line for line in served.log if line["event"] == "task_crashed")
    assert (crash["task"], crash["crash"]) == ("crashes", "ZeroDivisionError")


async def test_a_plugin_asks_an_upstream_by_name_outside_the_callers_exchange() -> None:
    found = []

    async def running(services):
        found.append(services.upstreams)
        yield

    async def call(exchange, request, forward) -> Response:
        assert found[0].names() == ("only",)
        side = await found[0].call("only", request.with_target("/v1/moderations"))
        assert await side.body.read(10) == b"{}"
        return await forward(request)

    async with ScriptedUpstream() as upstream, serve(config(upstream, told(call, running))) as served:
        async with RawClient(served.port) as client:
            await client.ask(GET)
        assert (await served.ended(1))[0]["attempts"] == ["only=200"]
    assert [received.target for received in upstream.requests] == [b"/v1/moderations", b"/v1/x"]


async def test_an_upstream_that_is_not_in_the_config_is_an_error_of_ours() -> None:
    async def call(exchange, request, forward) -> Response:
        return await forward(request.to("nobody"))

    async with (
        ScriptedUpstream() as upstream,
        serve(config(upstream, call)) as served,
        RawClient(served.port) as client,
    ):
        heard = await client.ask(GET)
        assert heard.status == 500 and b"not one that this route reaches" in heard.body


VERBOSE = b"GET /readyz?verbose HTTP/1.1\r\nHost: me\r\n\r\n"


async def test_readiness_tells_on_request_who_is_resting() -> None:
    config = (
        '[upstreams.a]\nbase_url = "http://127.0.0.1:1/v1"\n[upstreams.b]\nbase_url = "http://127.0.0.1:1/v1"\n'
        '[[routes]]\nmatch = "* /v1/*"\nchain = ["failover"]\n'
    )
    async with serve(config) as served, RawClient(served.port) as client:
        for _ in range(5):
            served.house.state.health(served.house.engine.log).failed(Attempt("a"), "image", "breaker")
        heard = await client.ask(VERBOSE)
        told = orjson.loads(heard.body)
        assert heard.status == 200 and told["upstreams"] == {"a": "resting", "b": "ok"}
        assert told["resting"][0]["why"] == "breaker"
        assert orjson.loads((await client.ask(b"GET /readyz HTTP/1.1\r\nHost: me\r\n\r\n")).body) == {"status": "ok"}
    async with serve(f'[server]\nlisten = "127.0.0.1:0"\nexpose = "id"\n{config}') as served:
        async with RawClient(served.port) as client:
            assert orjson.loads((await client.ask(VERBOSE)).body) == {"status": "ok"}
