"""How the sandbox starts, streams, logs and stops."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from proxy import sandbox
from proxy.__main__ import main
from proxy.sandbox.drawing import picture
from proxy.sandbox.endpoints import chat, models

from .plain import CHAT, post
from .running import running


async def exchange(base_url: str, sent: bytes) -> bytes:
    """Sends bytes and reads until the other side closes."""
    reader, writer = await asyncio.open_connection(urlsplit(base_url).hostname, urlsplit(base_url).port)
    writer.write(sent)
    await writer.drain()
    got = await reader.read()
    writer.close()
    await writer.wait_closed()
    return got


def test_importing_it_imports_neither_aiohttp_nor_pillow() -> None:
    heavy = "{'aiohttp', 'asyncio', 'PIL', 'orjson'}"
    look = f"import sys; from proxy.sandbox import Sandbox; print(sorted({heavy} & set(sys.modules)))"
    house = Path(sandbox.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", look], cwd=house, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["PIL", "PIL.Image"])
def test_says_what_to_install_when_pillow_is_missing(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        sandbox.SandboxError, match=r"draws its pictures with Pillow: pip install 'framegate\[images\]'"
    ):
        sandbox.application()
    with pytest.raises(sandbox.SandboxError):
        asyncio.run(sandbox.serve("127.0.0.1", 0))


def test_is_an_application_that_others_can_run() -> None:
    async def main() -> int:
        runner = web.AppRunner(sandbox.application())
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/models"
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return response.status
        finally:
            await runner.cleanup()

    assert asyncio.run(main()) == 200


def test_stops_listening_when_cancelled() -> None:
    async def main() -> None:
        async with running() as base_url:
            assert base_url.startswith("http://127.0.0.1:") and base_url.endswith("/v1")
            assert not base_url.endswith(":0/v1")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(urlsplit(base_url).hostname, urlsplit(base_url).port)

    asyncio.run(main())


def test_says_in_words_that_the_port_is_taken() -> None:
    async def main() -> None:
        async with running() as base_url:
            port = urlsplit(base_url).port
            assert port is not None
            with pytest.raises(sandbox.SandboxError, match=f"can't listen on 127.0.0.1:{port}: "):
                await sandbox.serve("127.0.0.1", port)

    asyncio.run(main())


def test_a_chat_stream_is_events_and_ends_with_done() -> None:
    async def main() -> tuple[str, str, bytes]:
        body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hello"}], "stream": True}
        async with running() as base_url, aiohttp.ClientSession() as session:
            async with session.post(base_url + "/chat/completions", json=body) as response:
                return response.content_type, response.headers["x-request-id"], await response.read()

    content_type, request_id, got = asyncio.run(main())
    assert content_type == "text/event-stream"
    assert request_id.startswith("req_")
    events = got.split(b"\n\n")
    assert all(event.startswith(b"data: ") for event in events[:-1])
    assert events[-2:] == [b"data: [DONE]", b""]
    assert b'"usage"' not in got


def test_the_event_loop_is_free_while_a_picture_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[str]:
        loop, drawing, seen, order = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), []
        draw = picture.encode

        def slow(*args: object, **more: object) -> bytes:
            loop.call_soon_threadsafe(drawing.set)
            asyncio.run_coroutine_threadsafe(seen.wait(), loop).result(30)
            return draw(*args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(picture, "encode", slow)
        async with running() as base_url, aiohttp.ClientSession() as session:

            async def generate() -> None:
                body = {"prompt": "a fox", "size": "64x64"}
                async with session.post(base_url + "/images/generations", json=body) as response:
                    assert response.status == 200
                order.append("image")

            task = asyncio.create_task(generate())
            await drawing.wait()
            async with session.get(base_url + "/models") as response:
                assert response.status == 200
            order.append("models")
            seen.set()
            await task
        return order

    assert asyncio.run(main()) == ["models", "image"]


def test_logs_no_bytes_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[bytes]:
        async with running() as base_url:
            return [
                await exchange(base_url, b"GET /hush HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
                await exchange(base_url, b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\nX-Hush: \x00hush\r\n\r\n"),
                await exchange(base_url, b"GET / hush HTTP/9.9 hush\r\n\r\n"),
                await exchange(base_url, b"GET / HTTP/1.1\r\nHost: h\r\nExpect: hush\r\nConnection: close\r\n\r\n"),
            ]

    caplog.set_level(logging.DEBUG)
    answers = asyncio.run(main())
    assert [answer.split(b" ")[1] for answer in answers] == [b"404", b"400", b"400", b"417"]
    assert any(record.name == "proxy.sandbox.server.wire" for record in caplog.records), (
        "the second is complained about"
    )
    assert "hush" not in caplog.text


def test_a_fault_of_its_own_looks_like_one_of_openai(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> dict[str, str]:
        raise RuntimeError(f"hush {name}")

    async def main() -> tuple[int, dict[str, dict[str, str]]]:
        async with running() as base_url, aiohttp.ClientSession() as session:
            async with session.get(base_url + "/models") as response:
                assert response.headers["x-request-id"]
                return response.status, await response.json()

    monkeypatch.setattr(models, "_model", broken)
    status, answer = asyncio.run(main())
    assert (status, answer["error"]["type"]) == (500, "server_error")
    assert "RuntimeError in the sandbox" in caplog.text
    assert "in broken" in caplog.text
    assert "hush gpt" not in caplog.text


async def test_is_there_for_the_length_of_a_with() -> None:
    async with sandbox.Sandbox() as one, sandbox.Sandbox() as two:
        assert len({one.url, two.url, one.control_url, two.control_url}) == 4
        assert one.url.startswith("http://127.0.0.1:") and one.url.endswith("/v1")
        url, control = one.url, one.control_url
        assert (await exchange(url, b"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))[:15] == (
            b"HTTP/1.1 200 OK"
        )
        assert (len(one.records), len(two.records)) == (1, 0)
    assert one.url == "" and len(one.records) == 1, "what was asked can be looked at afterwards"
    for gone in (url, control):
        with pytest.raises(ConnectionRefusedError):
            await exchange(gone, b"")


async def test_a_taken_control_port_leaves_nothing_listening() -> None:
    async with sandbox.Sandbox() as one:
        taken = urlsplit(one.control_url).port
        assert taken is not None
        two = sandbox.Sandbox(control=("127.0.0.1", taken))
        with pytest.raises(sandbox.SandboxError, match=f"can't listen on 127.0.0.1:{taken}: "):
            await two.__aenter__()
        assert two.url == ""
        ready: list[str] = []
        with pytest.raises(sandbox.SandboxError, match="can't listen"):
            await sandbox.serve("127.0.0.1", 0, ready=ready.append, control=("127.0.0.1", taken))
        assert ready == [], "nobody is told of a sandbox that isn't whole"


async def test_an_answer_that_breaks_halfway_does_not_look_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = "what nobody should read"

    async def broken(chunks: object) -> AsyncIterator[bytes]:
        yield b'data: {"choices":[]}\n\n'
        raise RuntimeError(words)

    monkeypatch.setattr(chat, "_frames", broken)
    async with sandbox.Sandbox() as one:
        with pytest.raises(ConnectionResetError):
            await exchange(one.url, post("/v1/chat/completions", {**CHAT, "stream": True}))
        await one.idle()
    assert one.records[0].sent > 0
    assert "RuntimeError in the sandbox" in caplog.text and words not in caplog.text


async def test_large_answers_come_whole_and_many_at_once() -> None:
    async with sandbox.Sandbox() as one, aiohttp.ClientSession() as session:
        one.fault("huge=3", times=None, match="GET *")

        async def listing() -> tuple[int, int | None]:
            async with session.get(one.url + "/models") as response:
                return len(await response.read()), response.content_length

        lengths = await asyncio.gather(*(listing() for _ in range(4)))
        await one.idle()
    assert all(length == told and length > 3 * 2**20 for length, told in lengths)


def test_the_command_hands_on_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, object] = {}

    async def serve(host: str, port: int, **settings: object) -> None:
        given.update(settings, listen=(host, port))

    monkeypatch.setattr("proxy.sandbox.serve", serve)
    line = (
        "sandbox --listen [::1]:0 --control localhost:1 --latency real --rpm 1 --ipm 2 --concurrent 3 --key a --key b"
    )
    assert main(line.split()) == 0
    told = {name: value for name, value in given.items() if not callable(value)}
    assert told == {
        "listen": ("::1", 0),
        "control": ("localhost", 1),
        "latency": "real",
        "rpm": 1,
        "ipm": 2,
        "concurrent": 3,
        "keys": ["a", "b"],
    }
    for option, words in (("--control=8091", "--control: "), ("--latency=fast", '--latency: "real" or a factor')):
        assert main(["sandbox", option]) == 1
        assert capsys.readouterr().err.startswith(words)


async def test_the_command_prints_one_line_for_each_port() -> None:
    words = ["-m", "proxy", "sandbox", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--rpm", "1"]
    house = Path(sandbox.__file__).parents[2]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=house, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        first, second = (await process.stdout.readline()).decode(), (await process.stdout.readline()).decode()
        url, control = first.removeprefix("the sandbox answers at "), second.removeprefix("its control port is ")
        async with aiohttp.ClientSession() as session:
            async with session.get(url.strip() + "/models") as response:
                assert response.headers["x-ratelimit-limit-requests"] == "1"
            async with session.get(control.strip() + "/counters") as response:
                assert (await response.json())["requests"] == 1
    finally:
        process.terminate()
        await process.wait()
