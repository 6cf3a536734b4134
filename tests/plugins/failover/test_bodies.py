"""What is asked a second time arrives whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxy.sandbox import Sandbox
from proxy.testkit.house import serve

from .speaking import picture

BOUNDARY = "----a-boundary"
SIZE = 40 * 2**20


def form() -> list[bytes]:
    """An edit with a picture of 40 MB, in pieces."""

    def head(name: str, more: str = "") -> bytes:
        return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n'.encode()

    real = picture(64)
    # PNG readers stop at IEND; what stands behind it makes it as large as is wanted.
    return [
        head("model") + b"\r\ngpt-image-2\r\n",
        head("image", '; filename="a.png"') + b"Content-Type: image/png\r\n\r\n" + real,
        *[bytes([n]) * 2**20 for n in range(SIZE // 2**20)],
        b"\r\n" + head("prompt") + b"\r\ntea\r\n" + head("size") + b"\r\n64x64\r\n" + f"--{BOUNDARY}--\r\n".encode(),
    ]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("fault", ["early-refusal", "early-refusal=503", "early-refusal=429,rst"])
async def test_forty_megabytes_that_one_refuses_early_arrive_whole_at_the_next(fault: str, slow: bool) -> None:
    pieces = form()
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()

    async def upload() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
            if slow:
                await asyncio.sleep(0.005)  # an uploader that is slower than the upstreams

    async with Sandbox() as bad, Sandbox() as good:
        bad.fault(fault)
        config = (
            f'[upstreams.bad]\nbase_url = "{bad.url}"\n[upstreams.good]\nbase_url = "{good.url}"\n'
            '[[routes]]\nmatch = "* /v1/*"\nchain = ["failover"]\n'
        )
        async with serve(config) as served, aiohttp.ClientSession() as session:
            headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
            async with session.post(f"{served.url}/v1/images/edits", data=upload(), headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                assert (await answer.json())["data"][0]["b64_json"]
                assert answer.headers["x-framegate-attempts"].endswith(", good=200")
        (record,) = good.records
        assert (record.sha256, record.whole) == (digest, True)
        assert (bad.counters.billed, good.counters.billed) == (0, 1)


async def test_a_body_that_is_too_large_to_be_kept_is_sent_once_and_the_answer_says_so() -> None:
    async with Sandbox() as bad, Sandbox() as good:
        bad.fault("early-refusal", times=None)
        config = (
            f'[upstreams.bad]\nbase_url = "{bad.url}"\n[upstreams.good]\nbase_url = "{good.url}"\n'
            '[server]\nlisten = "127.0.0.1:0"\nmax_body = "4GiB"\n[[routes]]\nmatch = "* /v1/*"\nchain = ["failover"]\n'
        )
        async with serve(config) as served, aiohttp.ClientSession() as session:
            head = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "content-length": str(2 * 2**30)}

            async def endless() -> AsyncIterator[bytes]:
                yield form()[0]
                for _ in range(2048):
                    yield b"x" * 2**20

            async with session.post(f"{served.url}/v1/images/edits", data=endless(), headers=head) as answer:
                assert answer.status == 429
                assert answer.headers["x-framegate-stopped"] == "body-not-kept"
        assert good.counters.requests == 0
