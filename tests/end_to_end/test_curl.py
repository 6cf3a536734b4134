"""curl through the proxy, in the ways in which people use it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy.testkit import Call
from proxy.testkit.upstream import OK

from .openai_answers import CHAT, EDGE, IMAGES, PICTURE
from .raw import requests
from .tee import Passage, passage

LARGE = random.Random(2).randbytes(3 * 2**20)
Curl = Callable[..., Awaitable[bytes]]


@pytest.fixture
def curl(needs: Callable[[str], str]) -> Curl:
    """Run curl with these words; what it printed."""
    program = needs("curl")

    async def run(*words: str | Path, stdin: bytes | None = None) -> bytes:
        ran = await asyncio.create_subprocess_exec(
            program,
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            *words,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await ran.communicate(stdin)
        assert (ran.returncode, errors) == (0, b"")
        return out

    return run


@pytest.fixture
async def through() -> AsyncIterator[Passage]:
    """A passage whose upstream always answers with pictures."""
    async with passage(IMAGES) as opened:
        yield opened


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file over 1 MB: curl asks for leave to send such a one."""
    path = tmp_path / "large.png"
    path.write_bytes(LARGE)
    return path


async def test_posts_json(through: Passage, curl: Curl) -> None:
    body = '{"prompt": "ein  Fuchs, rötlich",\n "n": 1.0}'
    words = ("-H", "Content-Type: application/json", "-H", "Authorization: Bearer sk-me", "-d", body)
    assert await curl(f"{through.url}/images/generations?a=%2f&b", *words) == IMAGES.partition(b"\r\n\r\n")[2]
    ((request, _),) = through.compare(1)
    assert request.start == b"POST /v1/images/generations?a=%2f&b HTTP/1.1"
    assert request.body == body.encode()


async def test_sends_repeated_empty_and_oddly_written_headers(through: Passage, curl: Curl) -> None:
    odd = ("-H", "X-TWICE: a", "-H", "x-twice: b", "-H", "X-Empty;", "-H", "x-Latin: caf\u00e9", "-H", "Accept:")
    await curl(f"{through.url}/models", *odd)
    ((request, _),) = through.compare(1)
    assert request.headers[2:] == [
        (b"X-TWICE", b"a"),
        (b"x-twice", b"b"),
        (b"X-Empty", b""),
        (b"x-Latin", "caf\u00e9".encode()),
    ]


async def test_uploads_multipart_and_asks_for_leave(through: Passage, curl: Curl, large: Path) -> None:
    form = ("-F", "prompt=a hat", "-F", f"image[]=@{large};type=image/png", "-F", f"image[]=@{large}")
    await curl(f"{through.url}/images/edits", *form)
    ((request, _),) = through.compare(1)
    assert request.all(b"expect") == [b"100-continue"]
    assert b"expect" not in {name.lower() for name, _ in requests(bytes(through.back.connections[0].inward))[0].headers}
    assert through.front.connections[0].outward.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert request.body.count(LARGE) == 2


async def test_uploads_chunked(through: Passage, curl: Curl, large: Path) -> None:
    await curl(f"{through.url}/files", "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{large}")
    ((request, _),) = through.compare(1)
    assert (request.framing, request.body) == ("chunked", LARGE)


async def test_streams_what_it_reads_as_it_comes(through: Passage, curl: Curl) -> None:
    await curl("-T", "-", f"{through.url}/files/one", stdin=LARGE)
    ((request, _),) = through.compare(1)
    assert (request.method, request.framing, request.body) == (b"PUT", "chunked", LARGE)


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
async def test_leave_to_send_is_given_only_where_somebody_wants_the_body(
    through: Passage, curl: Curl, large: Path, chunked: bool
) -> None:
    url = through.url.removesuffix("/v1")
    framing = ("-H", "Transfer-Encoding: chunked") if chunked else ()
    out = await curl(f"{url}/elsewhere", *framing, "-H", "Expect: 100-continue", "--data-binary", f"@{large}")
    assert b"route_not_found" in out
    (front,) = through.front.connections
    assert front.outward.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert len(front.inward) < 1000, "curl sent the body though it was refused"
    assert through.upstream.requests == []


@pytest.mark.parametrize("answer", [IMAGES, CHAT, OK], ids=["large", "compressed", "small"])
async def test_asks_for_the_head_alone(answer: bytes, curl: Curl) -> None:
    head = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    async with passage(head) as through:
        out = await curl("--head", f"{through.url}/files/one/content")
        assert out == head
        ((request, _),) = through.compare(1)
        assert request.method == b"HEAD"


@pytest.mark.parametrize("framing", ["counted", "close"])
async def test_speaks_http_1_0(framing: str, curl: Curl) -> None:
    head = b"HTTP/1.1 200 OK\r\n%b" % EDGE
    length = b"Content-Length: %d\r\n" % len(PICTURE) if framing == "counted" else b""

    async def script(call: Call) -> None:
        await call.body()
        await call.send(head + length + b"\r\n" + PICTURE)
        call.cut()

    async with passage(script=script) as through:
        out = await curl("--http1.0", f"{through.url}/files/one/content", "-d", "x=1")
        assert out == PICTURE
        ((request, answer),) = through.compare(1)
        assert request.start.endswith(b"HTTP/1.0")
        assert answer.framing == framing
        assert answer.all(b"connection") == [b"close"]


async def test_a_compressed_answer_is_passed_on_as_it_is(curl: Curl) -> None:
    async with passage(CHAT) as through:
        out = await curl("--compressed", f"{through.url}/chat/completions", "-d", "{}")
        assert out == gzip.decompress(CHAT.partition(b"\r\n\r\n")[2])
        raw = await curl("--http1.1", "-H", "Accept-Encoding: gzip", f"{through.url}/chat/completions", "-d", "{}")
        assert raw == CHAT.partition(b"\r\n\r\n")[2]
        through.compare(2)


async def test_reaches_the_proxy_over_a_unix_socket(curl: Curl, tmp_path: Path, large: Path) -> None:
    path = tmp_path / "s"
    async with passage(IMAGES, unix=str(path)) as through:
        out = await curl("--unix-socket", path, "http://framegate/v1/images/edits", "-F", f"image=@{large}")
        assert hashlib.sha256(out).digest() == hashlib.sha256(IMAGES.partition(b"\r\n\r\n")[2]).digest()
        through.compare(1)
        (line,) = await through.served.ended(1)
        assert line["client"] == "unix"
