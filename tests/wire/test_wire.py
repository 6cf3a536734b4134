from __future__ import annotations

from proxy.testkit import RawClient, ScriptedUpstream, serve


def transparent(upstream: ScriptedUpstream, more: str = "") -> str:
    return f"""
[upstreams.only]
base_url = "{upstream.url}"
{more}
[[routes]]
match = "* /v1/*"
chain = []
"""


async def test_basic() -> None:
    async with ScriptedUpstream() as upstream, serve(transparent(upstream)) as served, RawClient(served.port) as client:
        answer = await client.ask(b"POST /v1/x?a=%2F HTTP/1.1\r\nHost: me\r\nContent-Length: 2\r\n\r\nhi")
        print(answer, upstream.requests, served.log)
        answer = await client.ask(b"POST /v1/x?a=%2F HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        print(answer, upstream.requests, served.log)
        assert upstream.connections == 1
