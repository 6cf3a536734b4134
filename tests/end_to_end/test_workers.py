"""Several workers behind one address: real processes that are killed, stopped and given other configs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from proxy.testkit import Call, RawClient, ScriptedUpstream

from .crowd import ASK, asked, crowd, load
from .process import Process, command, program
from .test_run import LOOPS

READY = b"GET /readyz HTTP/1.1\r\nHost: me\r\n\r\n"
SECRET = "sk-of-the-upstream-and-nobody-elses"
# Says on each answer which process gave it and under which config; and misbehaves as it is told.
PLUGIN = """
import os, signal
from contextlib import asynccontextmanager
from pathlib import Path
from proxy.api import Plugin

class Who(Plugin):
    word: str = "a"

    @asynccontextmanager
    async def running(self, services):
        if self.word == "one fails":
            os.close(os.open(Path(__file__).with_name("taken"), os.O_CREAT | os.O_EXCL))
        if self.word == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.word == "crashes":
            raise RuntimeError("for the test")
        yield

    async def __call__(self, exchange, request, forward):
        response = await forward(request)
        return response.with_headers(x_pid=str(os.getpid()), x_word=self.word)
"""


def configured(
    folder: Path,
    upstream: str,
    *,
    workers: int = 2,
    word: str = "a",
    server: str = "",
    listen: str = "127.0.0.1:0",
    log: bool = False,
) -> Path:
    """Write a config and the plugin that it names."""
    (folder / "who.py").write_text(PLUGIN)
    path = folder / "framegate.toml"
    path.write_text(
        f'[server]\nlisten = "{listen}"\nworkers = {workers}\n{server}\n'
        f'[upstreams.only]\nbase_url = "{upstream}"\napi_key = "env:UPSTREAM_KEY"\n'
        f'[plugins.who]\nuse = "who:Who"\nword = "{word}"\n'
        '[[routes]]\nmatch = "* /v1/*"\nchain = ["who"]\n'
        f"[log]\nexchanges = {str(log).lower()}\n"
    )
    return path


def serve(path: Path, **environ: str) -> AbstractAsyncContextManager[Process]:
    return command("serve", "--config", path, UPSTREAM_KEY=SECRET, **environ)


async def stopped(pid: int) -> None:
    """Halt that process, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        await asyncio.sleep(0.001)


async def end(process: Process) -> None:
    process.send(signal.SIGTERM)
    assert await process.ended() == 0, process.heard
    assert SECRET not in "".join(process.heard)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_all_workers_answer_at_one_address_and_are_one_server(loop: str, unix: bool, tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/s" if unix else "127.0.0.1:0"
    async with ScriptedUpstream() as upstream:
        path = configured(tmp_path, upstream.url, listen=listen, server=f'loop = "{loop}"', log=True)
        async with serve(path) as process:
            line = await process.event("serving")
            assert line["workers"] == 2
            where = f"{tmp_path}/s" if unix else int(line["address"].rpartition(":")[2])
            async with crowd(where) as clients:
                assert process.pid not in clients.of
                # Whichever of them a request went through, it is known again by both.
                (mark,) = {request.get(b"cdn-loop") for request in upstream.requests}
                for client, *_ in clients.of.values():
                    again = await client.ask(ASK % (b"CDN-Loop: %b\r\n" % mark))
                    assert again.status == 508
            await end(process)
            lines = [json.loads(line) for line in process.heard if '"event":"exchange"' in line]
            assert {line["worker"] for line in lines} == {1, 2}
            assert not (tmp_path / "s").exists()


async def test_a_worker_that_is_killed_costs_nobody_else_a_request_and_is_replaced(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, serve(configured(tmp_path, upstream.url)) as process:
        port = await process.serving()
        async with crowd(port) as clients:
            killed, other = clients.of
            # It stands still first, so that what comes now waits in the queue: whoever waits must not go down with it.
            await stopped(killed)
            async with load(port, clients.of[other]) as words:
                os.kill(killed, signal.SIGKILL)
                ended = await process.event("worker_ended")
                started = await process.event("worker_started")
                before = len(words)
                while len(words) < before + 20:
                    await asyncio.sleep(0.001)
            assert (ended["pid"], ended["why"]) == (killed, "killed by SIGKILL")
            assert ended["worker"] == started["worker"] and ended["restart_in"] < 1
            await clients.forget(killed)
            await clients.until(lambda: started["pid"] in clients.of)
            assert (await asked(clients.of[other][0]))[0] == other

            # One alone is stopped as one would be replaced by hand: it drains, and another follows.
            os.kill(other, signal.SIGTERM)
            assert (await process.event("worker_ended"))["why"] == "it ended with status 0"
            another = (await process.event("worker_started"))["pid"]
            await clients.forget(other)
            await clients.until(lambda: another in clients.of)
        await end(process)


async def test_a_stop_drains_every_worker(tmp_path: Path) -> None:
    slow, may_end = 0, asyncio.Event()

    async def script(call: Call) -> None:
        nonlocal slow
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        if call.received.get(b"slow"):
            slow += 1
            await may_end.wait()
        await call.send(b"last")

    async with ScriptedUpstream(script=script) as upstream, serve(configured(tmp_path, upstream.url)) as process:
        port = await process.serving()
        async with crowd(port, each=2) as clients:
            for client, *_ in clients.of.values():
                await client.send(ASK % b"Slow: yes\r\n")
                await client.head()
            process.send(signal.SIGTERM)
            assert (await process.event("draining"))["workers"] == 2
            draining = [await process.event("draining") for _ in clients.of]
            assert sorted((line["worker"], line["exchanges"]) for line in draining) == [(1, 1), (2, 1)]
            for _, idle, *_ in clients.of.values():
                assert (await idle.ask(READY)).status == 503
            with pytest.raises(ConnectionRefusedError):
                await RawClient(port).__aenter__()
            may_end.set()
            for client, *_ in clients.of.values():
                assert await client.reader.readexactly(4) == b"last"
            assert await process.ended() == 0
            assert slow == 2 and '"event":"stopped"' in process.heard[-1]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_hurries(workers: int, tmp_path: Path) -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        if call.received.get(b"slow"):
            await asyncio.Event().wait()
        await call.send(b"last")

    async with ScriptedUpstream(script=script) as upstream:
        path = configured(tmp_path, upstream.url, workers=workers, server='drain_timeout = "10m"')
        async with serve(path) as process, crowd(await process.serving(), workers=workers) as clients:
            for client, *_ in clients.of.values():
                await client.send(ASK % b"Slow: yes\r\n")
                await client.head()
            process.send(signal.SIGTERM)
            for _ in range(workers if workers == 1 else workers + 1):
                await process.event("draining")
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
            for client, *_ in clients.of.values():
                assert await client.ended() == b""


async def test_a_config_is_taken_by_all_workers_or_by_none_under_load(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        path = configured(tmp_path, upstream.url)
        async with serve(path) as process:
            port = await process.serving()
            async with crowd(port, each=2) as clients:

                async def word() -> str:
                    """The one word that all connections agree on."""
                    (word,) = {(await asked(client))[1] for _, client, *_ in clients.of.values()}
                    return word

                async with load(port, [client for client, *_ in clients.of.values()]) as words:
                    configured(tmp_path, upstream.url, word="b")
                    process.send(signal.SIGHUP)
                    await process.event("reloaded")
                    assert await word() == "b"

                    path.write_text("[upstreams")
                    process.send(signal.SIGHUP)
                    (complaint,) = (await process.event("reload_refused"))["complaints"]
                    assert "not TOML" in complaint and await word() == "b"

                    configured(tmp_path, upstream.url, word="one fails")  # in the second of them
                    process.send(signal.SIGHUP)
                    (complaint,) = (await process.event("reload_refused"))["complaints"]
                    assert complaint.startswith("worker ") and "File exists" in complaint
                    assert (tmp_path / "taken").exists() and await word() == "b"

                    configured(tmp_path, upstream.url, word="c", workers=3)
                    process.send(signal.SIGHUP)
                    await process.event("reloaded")
                    assert (await process.event("restart_needed"))["settings"] == ["server"]
                    assert await word() == "c"
                assert set(words) == {"a", "b", "c"}

                # Who starts later has what the others have, not what the file says by now.
                configured(tmp_path, upstream.url, word="d")
                killed = min(clients.of)
                os.kill(killed, signal.SIGKILL)
                started = (await process.event("worker_started"))["pid"]
                await clients.forget(killed)
                await clients.until(lambda: started in clients.of)
                assert (await asked(clients.of[started][0]))[1] == "c"
            await end(process)


async def test_a_worker_that_stands_still_holds_nobody_up_for_ever(tmp_path: Path) -> None:
    main = "from proxy.__main__ import main; sys.exit(main())"
    hasty = f"import sys, proxy.workers.supervisor as s; s.PREPARE = s.LATE = 0.3; {main}"
    async with ScriptedUpstream() as upstream:
        path = configured(tmp_path, upstream.url, server='drain_timeout = "100ms"')
        async with program(
            sys.executable, "-W", "error", "-c", hasty, "serve", "--config", path, UPSTREAM_KEY=SECRET
        ) as process:
            async with crowd(await process.serving()) as clients:
                still, other = clients.of
                await stopped(still)
                configured(tmp_path, upstream.url, word="b")
                process.send(signal.SIGHUP)
                (complaint,) = (await process.event("reload_refused"))["complaints"]
                assert complaint.startswith("not ready within 0.3 s: worker ")
                assert await asked(clients.of[other][0]) == (other, "a")
            process.send(signal.SIGTERM)
            killed = await process.event("worker_killed")
            assert (killed["pid"], killed["why"]) == (still, "it did not end in time")
            assert await process.ended() == 1


async def test_a_worker_that_drains_hinders_no_reload(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        if call.received.get(b"slow"):
            await may_end.wait()
        await call.send(b"last")

    async with ScriptedUpstream(script=script) as upstream, serve(configured(tmp_path, upstream.url)) as process:
        async with crowd(await process.serving()) as clients:
            leaving, other = clients.of
            (slow, *_), (client, *_) = clients.of[leaving], clients.of[other]
            await slow.send(ASK % b"Slow: yes\r\n")
            await slow.head()
            os.kill(leaving, signal.SIGTERM)
            assert (await process.event("draining"))["exchanges"] == 1
            configured(tmp_path, upstream.url, word="one fails")  # which it does not where only one is asked
            process.send(signal.SIGHUP)
            await process.event("reloaded")
            (tmp_path / "taken").unlink()
            assert await asked(client) == (other, "one fails")
            may_end.set()
            assert await slow.reader.readexactly(4) == b"last"
            started = (await process.event("worker_started"))["pid"]
            await clients.forget(leaving)
            await clients.until(lambda: started in clients.of)
            assert await asked(clients.of[started][0]) == (started, "one fails")
        await end(process)


async def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        if call.received.get(b"slow"):
            await may_end.wait()
        await call.send(b"last")

    async with ScriptedUpstream(script=script) as upstream, serve(configured(tmp_path, upstream.url)) as process:
        port = await process.serving()
        async with crowd(port) as clients:
            for client, *_ in clients.of.values():
                await client.send(ASK % b"Slow: yes\r\n")
                await client.head()
            process.send(signal.SIGKILL)
            lines = [await process.event("draining") for _ in clients.of]
            assert {line["worker"] for line in lines} == {1, 2}
            may_end.set()
            for client, *_ in clients.of.values():
                assert await client.reader.readexactly(4) == b"last"
            assert await process.ended() == -signal.SIGKILL  # read to its end: nobody holds the pipe any more
        assert sum('"event":"supervisor_gone"' in line for line in process.heard) == 2


async def test_four_workers_make_one_store_at_their_first_start(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        path = tmp_path / "framegate.toml"
        path.write_text(
            f'[server]\nlisten = "127.0.0.1:0"\nworkers = 4\n[upstreams.only]\nbase_url = "{upstream.url}"\n'
            '[plugins.who]\nuse = "who:Who"\n'
            '[[routes]]\nmatch = "* /v1/*"\nchain = ["keys", "who"]\n[log]\nexchanges = false\n'
        )
        (tmp_path / "who.py").write_text(PLUGIN)
        async with serve(path) as process:
            port = await process.serving()
            assert sorted(one.name for one in (tmp_path / "state").iterdir() if "-" not in one.name) == [
                "framegate.db",
                "master.key",
            ]
            async with command("keys", "create", "app", "--config", path) as creating:
                assert await creating.ended() == 0
            (key,) = re.findall(r"sk-fg-\S+", "".join(creating.heard))
            # One hash of it is kept: workers with peppers of their own would not all know it.
            async with crowd(port, workers=4, extra=b"x-api-key: %b\r\n" % key.encode()):
                pass
            await end(process)


def errors(process: Process) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in process.heard if line.strip()]
    return [line for line in lines if line["level"] == "error"]


async def test_workers_that_can_not_start_are_told_of_in_one_line(tmp_path: Path) -> None:
    path = configured(tmp_path, "http://127.0.0.1:9/v1")
    path.write_text(path.read_text().replace('["who"]', '["keys", "who"]'))
    async with serve(path, FRAMEGATE_MASTER_KEY="rubbish") as process:
        assert await process.ended() == 1
        (line,) = errors(process)
        assert line["event"] == "start_failed" and "FRAMEGATE_MASTER_KEY holds something" in line["why"]

    async with serve(configured(tmp_path, "http://127.0.0.1:9/v1", word="crashes")) as process:
        assert await process.ended() == 1
        crashes = [one for one in errors(process) if one["event"] == "start_crashed"]
        (line,) = [one for one in errors(process) if one not in crashes]
        assert line["event"] == "start_failed" and line["why"].startswith("RuntimeError")
        assert crashes and "who.py" in str(crashes[0]["where"])


async def test_workers_that_die_at_start_again_and_again_are_given_up(tmp_path: Path) -> None:
    path = configured(tmp_path, "http://127.0.0.1:9/v1", word="dies")
    with (tmp_path / "who.py").open("a") as plugin:  # and it does what workers lose
        plugin.write("\nimport threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    # Without "-W error": some Pythons warn of such a thread themselves.
    async with program(sys.executable, "-m", "proxy", "serve", "--config", path, UPSTREAM_KEY=SECRET) as process:
        assert "running()" in (await process.event("threads_before_workers"))["why"]
        assert await process.ended() == 1
        *ended, line = errors(process)
        assert line["event"] == "start_failed" and line["why"].endswith(
            "ended 5 times before it could serve; the last time: killed by SIGKILL"
        )
        assert {one["event"] for one in ended} == {"worker_ended"}
        assert max(one["restart_in"] for one in ended) == 0.8


async def test_a_port_that_is_taken_is_said_in_words(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        path = configured(tmp_path, upstream.url, listen=f"127.0.0.1:{upstream.port}")
        async with serve(path) as process:
            failed = await process.event("start_failed")
            assert failed["why"] == f"can't listen on 127.0.0.1 port {upstream.port}: address already in use"
            assert await process.ended() == 1
