"""aiohttp's own contexts read the system's certificates when they are used, and then as they always did."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .authority import Authority

ROOT = Path(__file__).parent.parent.parent
# A plugin with a client of its own, in a process in which nobody had imported aiohttp before us.
ASKS = """
import asyncio, ssl, sys
import proxy.wire
import aiohttp
from aiohttp import connector

async def main(url):
    own = connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED
    print([type(context).__name__ for context in own], [context.cert_store_stats()["x509"] for context in own])
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            print(answer.status)
    except aiohttp.ClientConnectorCertificateError:
        print("not believed")
    print([type(context) is ssl.SSLContext for context in own], own[0].cert_store_stats()["x509"])
    fresh = ssl.create_default_context()
    mended = "set_default_verify_paths" not in vars(ssl.SSLContext)
    print(type(fresh) is ssl.SSLContext, fresh.cert_store_stats()["x509"], mended)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(("known", "ended"), [(True, "200"), (False, "not believed")])
async def test_a_plugins_own_client_verifies_as_ever(
    known: bool, ended: str, authority: Authority, tmp_path: Path
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    (tmp_path / "other").mkdir()
    believed = authority if known else Authority(tmp_path / "other")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=authority.server("127.0.0.1"))
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        environ = {**os.environ, "SSL_CERT_FILE": str(believed.ca_file), "SSL_CERT_DIR": str(tmp_path / "none")}
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASKS, url, cwd=ROOT, env=environ, stdout=subprocess.PIPE
        )
        said, _ = await asking.communicate()
    assert said.decode().splitlines() == [
        "['Late', 'Late'] [0, 0]",
        ended,
        "[True, False] 1",
        "True 1 True",
    ]
