from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from openai import AsyncOpenAI

from plugins.keys import OPEN
from proxy.api import Secret
from proxy.core.config import ConfigError, load
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve

WEB, CI = "web-key-0123456789-0123456789-0123456789", "ci-key-0123456789-0123456789-0123456789"
OURS = "sk-upstream-0123456789abcdef"
ENVIRON = {"WEB": WEB, "CI": CI, "OURS": OURS, "TEAM_A": "sk-team-a-0123456789", "TEAM_B": "sk-team-b-0123456789"}
ASK = b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: 2\r\n\r\n{}"


def closed(upstream: ScriptedUpstream, more: str = "") -> str:
    return f"""
[upstreams.only]
base_url = "{upstream.url}"
api_key = "env:OURS"
[keys.web]
secret = "env:WEB"
[keys.ci]
secret = "env:CI"
endpoints = ["stored", "batches"]
[plugins.keys]
{more}
[[routes]]
match = "* /v1/*"
chain = ["keys"]
"""


def opened(upstream: ScriptedUpstream, more: str = "") -> str:
    return closed(upstream, f'mode = "open"\n{more}')


def told(answer: bytes) -> dict[str, object]:
    error: dict[str, object] = orjson.loads(answer)["error"]
    return error


# --- Whose key it is


@pytest.mark.parametrize(
    "header",
    [b"Authorization: Bearer %b", b"authorization: bearer  %b", b"x-api-key: %b", b"API-Key: %b"],
    ids=lambda header: header.partition(b":")[0].decode(),
)
async def test_takes_the_key_from_every_place_and_off_again(header: bytes) -> None:
    async with ScriptedUpstream() as upstream, serve(closed(upstream), environ=ENVIRON) as served:
        async with RawClient(served.port) as client:
            answer = await client.ask(ASK % (header % WEB.encode() + b"\r\n"))
    assert answer.status == 200
    (received,) = upstream.requests
    assert [pair for pair in received.headers if b"key" in pair[0].lower() or b"auth" in pair[0].lower()] == [
        (b"Authorization", f"Bearer {OURS}".encode())
    ]
    assert WEB.encode() not in b"".join(value for _, value in received.headers) + served.raw_log


async def test_a_request_without_a_key_is_told_how_to_send_one() -> None:
    async with ScriptedUpstream() as upstream, serve(closed(upstream), environ=ENVIRON) as served:
        async with RawClient(served.port) as client:
            answer = await client.ask(ASK % b"")
    error = told(answer.body)
    assert (answer.status, error["code"], error["type"]) == (401, "unauthorized", "authentication_error")
    assert answer.get(b"x-should-retry") == b"false" and upstream.connections == 0


@pytest.mark.parametrize("key", ["sk-wrong", "sk-fg-aaaaaaaaaa-" + "x" * 40, "x" * 5000, "' OR 1=1; --", "%s%n"])
async def test_a_key_that_is_nobodys_is_refused_before_anything_is_sent(key: str) -> None:
    async with ScriptedUpstream() as upstream, serve(closed(upstream), environ=ENVIRON) as served:
        async with RawClient(served.port) as client:
            answer = await client.ask(ASK % f"Authorization: Bearer {key}\r\n".encode())
    assert (answer.status, told(answer.body)["code"]) == (401, "invalid_api_key")
    assert upstream.connections == 0 and key.encode() not in answer.body + served.raw_log


async def test_two_different_keys_are_refused_and_one_twice_is_fine() -> None:
    async with ScriptedUpstream() as upstream, serve(closed(upstream), environ=ENVIRON) as served:
        async with RawClient(served.port) as client:
            two = await client.ask(ASK % f"Authorization: Bearer {WEB}\r\nx-api-key: {CI}\r\n".encode())
            assert (two.status, told(two.body)["code"]) == (400, "invalid_request")
        async with RawClient(served.port) as client:
            assert (
                await client.ask(ASK % f"Authorization: Bearer {WEB}\r\nx-api-key: {WEB}\r\n".encode())
            ).status == 200


# --- Where they may go


@pytest.mark.parametrize(
    ("line", "web", "ci"),
    [
        (b"POST /v1/images/generations", 200, 403),
        (b"GET /v1/models", 200, 403),
        (b"GET /v1/files", 403, 200),
        (b"GET /v1/batches/b_1", 403, 200),
        (b"POST /v1/fine_tuning/jobs", 403, 403),
        (b"POST /v1/realtime/client_secrets", 403, 403),
        (b"GET /v1/organization/costs", 403, 403),
        (b"POST /v1/nobody/knows", 403, 200),
        (b"POST /v1/Images/generations", 403, 200),  # not that endpoint, to the letter: for stored objects at most
        (b"POST /v1/im%61ges/generations", 400, 400),
        (b"GET /v1/files%2Fx", 400, 400),
        (b"POST /v1//images/generations", 400, 400),
        (b"POST /v1/images/../files", 400, 400),
    ],
)
async def test_a_key_goes_where_its_endpoints_say(line: bytes, web: int, ci: int) -> None:
    async with ScriptedUpstream() as upstream, serve(closed(upstream), environ=ENVIRON) as served:
        for key, status in ((WEB, web), (CI, ci)):
            async with RawClient(served.port) as client:
                head = b"%b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\nContent-Length: 0\r\n\r\n"
                answer = await client.ask(head % (line, key.encode()))
            assert answer.status == status
            if status == 403:
                assert told(answer.body)["code"] == "permission_denied" and told(answer.body)["param"]
    assert len(upstream.requests) == [web, ci].count(200)


LIST = b'{"object":"list","data":[{"id":"gpt-image-2","object":"model","new":1},{"id":"gpt-5"},{"id":"gpt-image-3"}]}'


def listing(body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        more,
        len(body),
        body,
    )


async def test_the_list_of_models_is_narrowed_to_the_keys() -> None:
    async with ScriptedUpstream(listing(LIST)) as upstream, serve(closed(upstream), environ=ENVIRON) as served:
        key, _ = await (await served.house.state.keys()).create("a", models=["gpt-image-*", "other"])
        ask = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nAuthorization: Bearer %b\r\n\r\n"
        async with RawClient(served.port) as client:
            narrow = await client.ask(ask % key.encode())
            wide = await client.ask(ask % WEB.encode())
            upstream.answer = listing(b'{"data": 1}')
            strange = await client.ask(ask % key.encode())
    assert [model["id"] for model in orjson.loads(narrow.body)["data"]] == ["gpt-image-2", "gpt-image-3"]
    assert orjson.loads(narrow.body)["data"][0]["new"] == 1 and wide.body == LIST
    assert (strange.status, told(strange.body)["code"]) == (502, "upstream_failed")
    assert [received.get(b"accept-encoding") for received in upstream.requests] == [b"identity", b"gzip", b"identity"]


# --- Open mode


@pytest.mark.parametrize("host", [b"localhost", b"localhost:8080", b"127.0.0.1:1", b"[::1]:8080", b"LOCALHOST"])
async def test_in_open_mode_any_key_will_do_or_none(host: bytes) -> None:
    async with ScriptedUpstream() as upstream, serve(opened(upstream), environ=ENVIRON) as served:
        for key in (b"", b"Authorization: Bearer anything\r\n"):
            async with RawClient(served.port) as client:
                assert (await client.ask((ASK % key).replace(b"localhost", host))).status == 200
    assert {received.get(b"authorization") for received in upstream.requests} == {f"Bearer {OURS}".encode()}


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1.evil.example", b"localhost.evil.example:80", b"user@evil", b"[::2]"]
)
async def test_in_open_mode_a_rebinding_name_is_refused(host: bytes) -> None:
    async with ScriptedUpstream() as upstream, serve(opened(upstream), environ=ENVIRON) as served:
        async with RawClient(served.port) as client:
            answer = await client.ask((ASK % b"").replace(b"localhost", host))
    assert (answer.status, told(answer.body)["code"]) == (403, "origin_not_allowed") and upstream.connections == 0


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"http://localhost:3000", b""])
async def test_in_open_mode_a_web_page_is_refused(origin: bytes) -> None:
    async with ScriptedUpstream() as upstream, serve(opened(upstream), environ=ENVIRON) as served:
        async with RawClient(served.port) as client:
            answer = await client.ask(ASK % (b"Origin: %b\r\n" % origin))
    assert (answer.status, told(answer.body)["param"]) == (403, "Origin") and upstream.connections == 0


async def test_in_open_mode_listed_hosts_and_origins_come_in() -> None:
    listed = 'hosts = ["box.lan"]\norigins = ["http://localhost:3000"]'
    async with ScriptedUpstream() as upstream, serve(opened(upstream, listed), environ=ENVIRON) as served:
        async with RawClient(served.port) as client:
            head = (ASK % b"Origin: http://localhost:3000\r\n").replace(b"Host: localhost", b"Host: box.lan:8080")
            assert (await client.ask(head)).status == 200


# --- Credentials


async def test_groups_with_accounts_of_their_own_never_mix() -> None:
    """1,000 interleaved requests of two groups through the official SDK."""
    seen: list[tuple[str, str]] = []

    async def script(call: Call) -> None:
        asked = orjson.loads(await call.body())["prompt"]
        seen.append((asked, (call.received.get(b"authorization") or b"").decode()))
        body = orjson.dumps({"created": 1, "data": [{"b64_json": asked}]})
        await call.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )

    async with ScriptedUpstream(script=script) as upstream:
        config = f"""
[upstreams.only]
base_url = "{upstream.url}"
[keys.web]
secret = "env:WEB"
group = "a"
[keys.ci]
secret = "env:CI"
group = "b"
[groups.a]
credentials = {{ only = "env:TEAM_A" }}
[groups.b]
credentials = {{ only = "env:TEAM_B" }}
[[routes]]
match = "* /v1/*"
chain = ["keys"]
"""
        async with serve(config, environ=ENVIRON) as served:
            clients = [AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0) for key in (WEB, CI)]

            async def ask(number: int) -> None:
                name = f"{'ab'[number % 2]}-{number}"
                answer = await clients[number % 2].images.generate(model="gpt-image-2", prompt=name)
                assert answer.data is not None and answer.data[0].b64_json == name

            for batch in itertools.batched(range(1000), 50) if hasattr(itertools, "batched") else _batches(1000, 50):
                await asyncio.gather(*map(ask, batch))
            for client in clients:
                await client.close()
    assert len(seen) == 1000
    assert {(name[0], value) for name, value in seen} == {
        ("a", "Bearer sk-team-a-0123456789"),
        ("b", "Bearer sk-team-b-0123456789"),
    }


def _batches(count: int, size: int) -> list[range]:
    return [range(start, start + size) for start in range(0, count, size)]


async def test_a_caller_without_a_credential_is_told_so_in_general_words() -> None:
    async with ScriptedUpstream() as upstream:
        config = f"""
[upstreams.only]
base_url = "{upstream.url}"
[keys.web]
secret = "env:WEB"
[groups.a]
credentials = {{ only = "env:TEAM_A" }}
[[routes]]
match = "* /v1/*"
chain = ["keys"]
"""
        async with serve(config, environ=ENVIRON) as served, RawClient(served.port) as client:
            answer = await client.ask(ASK % f"Authorization: Bearer {WEB}\r\n".encode())
    assert (answer.status, told(answer.body)["code"]) == (503, "provider_credential_missing")
    assert upstream.connections == 0


async def test_a_request_that_comes_round_again_is_a_loop() -> None:
    async def script(call: Call) -> None:
        await call.body()
        headers = b"".join(b"%b: %b\r\n" % pair for pair in call.received.headers if pair[0].lower() != b"host")
        async with RawClient(port) as back:
            answer = await back.ask(b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n%b\r\n{}" % headers)
        await call.send(b"%b\r\nContent-Length: %d\r\n\r\n%b" % (answer.line, len(answer.body), answer.body))

    async with ScriptedUpstream(script=script) as upstream, serve(opened(upstream), environ=ENVIRON) as served:
        port = served.port
        async with RawClient(port) as client:
            answer = await client.ask(ASK % b"")
    assert (answer.status, told(answer.body)["code"]) == (508, "loop_detected") and len(upstream.requests) == 1


async def test_what_a_reload_can_not_change_is_told(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, serve(closed(upstream), environ=ENVIRON) as served:
        old = served.house.config
        short = replace(old.keys["web"], secret=Secret("short"))
        new = replace(old, keys={"web": short}, store=replace(old.store, url=f"sqlite:{tmp_path}/other.db"))
        await served.house.reload(new)
        async with RawClient(served.port) as client:
            assert (await client.ask(ASK % b"x-api-key: short\r\n")).status == 200
        async with RawClient(served.port) as client:
            assert (await client.ask(ASK % f"x-api-key: {WEB}\r\n".encode())).status == 401
        told_of = {line["event"]: line for line in served.log}
        assert told_of["restart_needed"]["settings"] == ["store"] and told_of["short_keys"]["keys"] == ["web"]
        assert served.house.config.store == old.store and not (tmp_path / "other.db").exists()


# --- Sockets


async def test_a_key_in_a_sockets_protocols_is_translated_and_never_echoed() -> None:
    async with ScriptedUpstream(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n") as upstream:
        async with serve(closed(upstream), environ=ENVIRON) as served, RawClient(served.port) as client:
            answer = await client.ask(
                b"GET /v1/realtime?model=x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.%b\r\n\r\n" % WEB.encode()
            )
            await served.ended(1)
    (received,) = upstream.requests
    assert received.get(b"sec-websocket-protocol") == b"realtime"
    assert received.get(b"authorization") == f"Bearer {OURS}".encode()
    assert WEB.encode() not in repr((answer, received.headers)).encode() + served.raw_log


# --- Over processes


def _command(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    config = str(folder / "framegate.toml")
    return subprocess.run(
        [sys.executable, "-m", "proxy", *words, "--config", config],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | ENVIRON,
    )


async def test_a_revoked_key_is_dead_in_all_processes_within_five_seconds(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        (tmp_path / "framegate.toml").write_text(closed(upstream))
        key = _command("keys", "create", "ci", folder=tmp_path).stdout.strip()
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "proxy", "serve", "--config", str(tmp_path / "framegate.toml")),
                *("--listen", f"unix:{tmp_path / f'{number}.sock'}"),
                stderr=subprocess.PIPE,
                env=os.environ | ENVIRON,
            )
            for number in range(3)
        ]
        try:
            for process in processes:
                assert process.stderr is not None
                while b'"serving"' not in await process.stderr.readline():
                    pass

            async def ask(number: int) -> int:
                async with RawClient(str(tmp_path / f"{number}.sock")) as client:
                    return (await client.ask(ASK % f"Authorization: Bearer {key}\r\n".encode())).status

            assert await asyncio.gather(*map(ask, range(3))) == [200, 200, 200]
            await asyncio.to_thread(_command, "keys", "revoke", key.split("-")[2], folder=tmp_path)
            loop = asyncio.get_running_loop()
            revoked = loop.time()
            while await asyncio.gather(*map(ask, range(3))) != [401, 401, 401]:
                assert loop.time() - revoked < 5
                await asyncio.sleep(0.1)
            print(f"dead in three processes after {loop.time() - revoked:.1f} s")
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            await asyncio.gather(*(process.communicate() for process in processes))


def test_no_key_can_be_declared_by_the_id_of_those_who_need_none(tmp_path: Path) -> None:
    """It would have owned the pictures of all who called in open mode."""
    path = tmp_path / "framegate.toml"
    path.write_text(f'[upstreams.a]\nbase_url = "http://a/v1"\n[keys.{OPEN.id}]\nsecret = "file:key"\n')
    (tmp_path / "key").write_text("hunter2")
    with pytest.raises(ConfigError, match=f"keys.{OPEN.id}: .* another name"):
        load(path, {})
