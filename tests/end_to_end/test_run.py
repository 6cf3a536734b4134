"""Framegate as `make run` starts it, and as an operator stops it and gives it another config."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import struct
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from proxy.testkit import Call, RawClient, ScriptedUpstream

from .process import ROOT, Process, command, program, serving
from .tee import transparent

# uvloop is an extra: where it is not installed there is nothing to test, and nothing to skip.
LOOPS = ["asyncio", *(["uvloop"] if find_spec("uvloop") is not None else [])]
ASK = b'{"model":"gpt-image-2","prompt":"a red fox","size":"512x256"}'
POST = (
    b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer any\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)
GET = b"GET /v1/models HTTP/1.1\r\nHost: me\r\n\r\n"


async def address(process: Process, text: str) -> tuple[str, int]:
    """What stands behind that text in a line of the process: a URL, and its port."""
    while not (found := re.search(rf"{text}(http://127\.0\.0\.1:(\d+)\S*)", await process.line())):
        pass
    return found[1], int(found[2])


async def stop(process: Process) -> None:
    process.send(signal.SIGTERM)
    assert await process.ended() == 0, process.heard


async def test_the_sandbox_behind_the_proxy_draws_a_picture(tmp_path: Path) -> None:
    async with command("sandbox", "--listen", "127.0.0.1:0") as sandbox:
        url, _ = await address(sandbox, "the sandbox answers at ")
        config = (ROOT / "deploy" / "config" / "sandbox.toml").read_text()
        assert config.count("http://127.0.0.1:8090/v1") == 1
        path = tmp_path / "framegate.toml"
        path.write_text(config.replace("http://127.0.0.1:8090/v1", url))
        async with command("serve", "--config", path, "--listen", "127.0.0.1:0", NO_COLOR="1") as process:
            _, port = await address(process, "address=")
            async with RawClient(port) as client:
                answer = await client.ask(POST % (len(ASK), ASK))
                assert answer.line == b"HTTP/1.1 200 OK"
                picture = base64.b64decode(json.loads(answer.body)["data"][0]["b64_json"])
                assert picture.startswith(b"\x89PNG\r\n\x1a\n")
                assert struct.unpack(">II", picture[16:24]) == (512, 256)
                assert (await client.ask(b"GET /livez HTTP/1.1\r\nHost: me\r\n\r\n")).status == 200
            await stop(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("loop", LOOPS)
async def test_a_stop_lets_what_runs_end_and_refuses_what_is_new(
    number: signal.Signals, loop: str, tmp_path: Path
) -> None:
    asked, may_end = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        asked.set()
        await may_end.wait()
        await call.send(b" last")

    async with ScriptedUpstream(script=script) as upstream:
        config = transparent(upstream.url, f'[server]\nlisten = "127.0.0.1:0"\nloop = "{loop}"\n')
        async with serving(config, tmp_path) as (process, port), RawClient(port) as client, RawClient(port) as idle:
            await client.send(GET)
            await client.head()
            await asked.wait()
            process.send(number)
            assert (await process.event("draining"))["exchanges"] == 1
            late = await idle.ask(GET)
            assert (late.status, late.get(b"x-should-retry")) == (503, b"true")
            with pytest.raises(ConnectionRefusedError):
                await RawClient(port).__aenter__()
            assert len(upstream.requests) == 1
            may_end.set()
            assert await client.reader.readexactly(10) == b"first last"
            assert await process.ended() == 0
            assert '"event":"stopped"' in process.heard[-1]


async def test_a_broken_config_keeps_the_old_one_and_a_good_one_is_taken(tmp_path: Path) -> None:
    listen = '[server]\nlisten = "127.0.0.1:0"\n'
    async with ScriptedUpstream() as old, ScriptedUpstream() as new:
        async with serving(transparent(old.url), tmp_path) as (process, port), RawClient(port) as client:
            path = tmp_path / "framegate.toml"
            for broken in ("[upstreams", listen + f'[upstreams.only]\nbase_urls = "{new.url}"\n'):
                path.write_text(broken)
                process.send(signal.SIGHUP)
                refused = await process.event("reload_refused")
                assert refused["complaints"], refused
                assert (await client.ask(GET)).status == 200
            assert any("base_url" in complaint for complaint in refused["complaints"])
            assert (len(old.requests), len(new.requests)) == (2, 0)

            path.write_text(transparent(new.url, listen))
            process.send(signal.SIGHUP)
            await process.event("reloaded")
            assert (await client.ask(GET)).status == 200
            async with RawClient(port) as another:  # the listener stays where it was
                assert (await another.ask(GET)).status == 200
            assert (len(old.requests), len(new.requests)) == (2, 2)
            await stop(process)


async def test_a_port_that_is_taken_is_said_in_words(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        taken = f'[server]\nlisten = "127.0.0.1:{upstream.port}"\n'
        path = tmp_path / "framegate.toml"
        path.write_text(transparent(upstream.url, taken))
        async with command("serve", "--config", path) as process:
            failed = await process.event("start_failed")
            assert str(upstream.port) in json.dumps(failed)
            assert await process.ended() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_make_run_ends_what_it_has_started(
    number: signal.Signals, needs: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    framegate = tmp_path / "framegate"  # the command as it would be installed, on ports that are free
    framegate.write_text(f'#!/bin/sh\nexec {sys.executable} -m proxy "$@" --listen 127.0.0.1:0\n')
    framegate.chmod(0o755)
    async with program(needs("sh"), "deploy/run.sh", BIN=str(tmp_path), NO_COLOR="1") as shell:
        ports: list[int] = []
        while len(ports) < 2:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", await shell.line()):
                ports.append(int(found[1]))
        assert any("SANDBOX" in line for line in shell.heard)
        shell.send(number)
        assert await shell.ended() == 0, shell.heard  # read to its end: nobody holds the pipe any more
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            await RawClient(port).__aenter__()
