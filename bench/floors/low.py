"""The floor `low`: aiohttp's low-level server and one tuned client session, streaming both ways."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

BUFFER = 2**18
HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Proxy-Connection")
NOT_ADDED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


def passed(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    for name in HOP_BY_HOP:
        headers.popall(name, None)
    return headers


async def serve(port: int, upstream: int) -> None:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        read_bufsize=BUFFER,
        skip_auto_headers=NOT_ADDED,
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        headers = passed(CIMultiDict(request.headers))
        headers.popall("Host", None)
        url = URL(f"http://127.0.0.1:{upstream}{request.raw_path}", encoded=True)
        body = request.content if request.body_exists else None
        async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
            response = web.StreamResponse(status=answer.status, headers=passed(CIMultiDict(answer.headers)))
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    server = web.Server(handle, access_log=None)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", port, backlog=4096)
    async with session, listening:
        await listening.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
