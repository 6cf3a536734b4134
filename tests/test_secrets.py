"""No secret shows: not in logs, errors, reprs, tracebacks, files, nor on a command line."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import traceback
from pathlib import Path

import pytest

from proxy.api import Secret
from proxy.core.config import load
from proxy.core.credential import Credential
from proxy.testkit import RawClient, ScriptedUpstream, serve

KEY, OURS, TOKEN = "caller-secret-0123456789-abcdefghij", "sk-upstream-0123456789abcdef", "header-token-0123456789"
ENVIRON = {"KEY": KEY, "OURS": OURS, "TOKEN": TOKEN}
ALL = tuple(secret.encode() for secret in ENVIRON.values())
PLACES = [
    b"Authorization: Bearer %b",
    b"Authorization: %b",
    b"Authorization: Basic %b",
    b"x-api-key: %b",
    b"api-key: %b",
    b"Cookie: key=%b",
    b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.%b",
    b"X-Anything: %b",
    b"Host: %b",
    b"%b: x",
    b"Broken %b",
    b" %b",
]


def config(base_url: str) -> str:
    return f"""
[upstreams.only]
base_url = "{base_url}"
api_key = ["env:OURS"]
headers = {{ "x-token" = "env:TOKEN" }}
[keys.web]
secret = "env:KEY"
endpoints = ["*"]
[plugins.boom]
use = "tests.test_secrets:Boom"
token = "env:TOKEN"
[[routes]]
match = "POST /v1/boom/*"
chain = ["keys", "boom"]
[[routes]]
match = "* /v1/*"
chain = ["keys"]
"""


class Boom(__import__("proxy.api", fromlist=["Plugin"]).Plugin):  # type: ignore[misc]
    """Crashes with everything it knows."""

    token: Secret

    async def __call__(self, exchange, request, forward):  # type: ignore[no-untyped-def]
        raise RuntimeError(f"{self.token.reveal()} {request.headers.raw} {exchange.received.headers.raw}")


async def everything(port: int) -> bytes:
    """All answers to a request with the key in each place, on good and bad paths."""
    heard = b""
    for path in (b"/v1/images/generations", b"/v1/boom/x", b"/nowhere", b"/v1/%2e%2e/x", b"/v1/files"):
        for place in PLACES:
            async with RawClient(port) as client:
                line = place % KEY.encode()
                host = b"" if line.startswith(b"Host") else b"Host: a\r\n"
                head = b"POST %b HTTP/1.1\r\n%b%b\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
                await client.send(head % (path, host, line))
                heard += await client.ended()
    for path in (b"/v1/x?key=%b", b"/v1/x;?%b", b"/v1//?%b", b"http://a/?%b", b"?%b"):  # queries are never logged
        async with RawClient(port) as client:
            await client.send(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (path % KEY.encode()))
            heard += await client.ended()
    return heard


async def test_no_secret_shows_in_an_answer_or_the_log_wherever_it_stood() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream.url), environ=ENVIRON) as served:
        heard = await everything(served.port)
        written = served.raw_log
    assert heard.count(b"HTTP/1.1 ") == len(PLACES) * 5 + 5
    assert b"layer_crashed" in written and b"request_unreadable" in written
    assert upstream.requests and not [secret for secret in ALL if secret in heard]
    shown = [line for line in written.splitlines() if any(secret in line for secret in ALL)]
    assert shown == []


async def test_no_secret_shows_from_a_whole_process(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        (tmp_path / "framegate.toml").write_text(config(upstream.url))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-m", "proxy", "serve"),
            *("--config", str(tmp_path / "framegate.toml"), "--listen", f"unix:{tmp_path / 's.sock'}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | ENVIRON,
        )
        assert process.stdout is not None
        written = b""
        while b'"serving"' not in written:
            written += await process.stdout.readline()
        line = await asyncio.to_thread(Path(f"/proc/{process.pid}/cmdline").read_bytes)
        for place in PLACES:
            async with RawClient(str(tmp_path / "s.sock")) as client:
                head = b"POST /v1/boom/x HTTP/1.1\r\nHost: a\r\n%b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                await client.send(head % (place % KEY.encode()))
                written += await client.ended()
        process.send_signal(signal.SIGTERM)
        written += (await process.communicate())[0]
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert process.returncode == 0 and (tmp_path / "state" / "framegate.db").exists()
    assert not [secret for secret in ALL if secret in line + written + files]


async def test_no_secret_shows_in_a_repr_or_a_traceback_with_its_locals() -> None:
    async with ScriptedUpstream() as upstream, serve(config(upstream.url), environ=ENVIRON) as served:
        house = served.house
        shown = [repr(house.config), str(house.config), repr(vars(house)), repr(house.engine._generation)]
        credential = Credential([Secret(OURS)], auth="bearer", headers={"x-token": Secret(TOKEN)}, swaps=True)
        shown += [repr(credential), f"{Secret(OURS)} {Secret(OURS)!r}", repr([Secret(OURS)]), str(Secret(OURS))]
        try:
            settings, secret = house.config.upstreams, Secret(OURS)
            raise RuntimeError(f"{settings} {secret}")
        except RuntimeError as error:
            shown.append("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
    assert not [secret for secret in ALL if secret.decode() in "".join(shown)]


def test_a_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(OURS))


def test_no_secret_shows_in_a_complaint(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    for table in (
        f'[upstreams.a]\nbase_url = "https://u:{OURS}@a.example/v1"',
        f'[upstreams.a]\nbase_url = "https://a.example/v1"\napi_key = "{OURS}"',
        f'[upstreams.a]\nbase_url = "https://a.example/v1"\napi_key = "env:{OURS}"',
        f'[upstreams.a]\nbase_url = "https://a.example/v1"\nheaders = {{ Authorization = "{OURS}" }}',
        f'[keys.a]\nsecret = "{OURS}"',
        f'[admin]\ntoken = "{OURS}"',
    ):
        path.write_text(table)
        with pytest.raises(Exception) as told:  # noqa: PT011 - whatever it is, it must not say the secret
            load(path, {})
        assert OURS not in f"{told.value} {told.value!r}"
