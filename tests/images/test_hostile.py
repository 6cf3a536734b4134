"""Pictures that would rather be programs: each is served as the picture it is, or never kept."""

from __future__ import annotations

import orjson
import pytest

from proxy.testkit import RawClient

from .asking import code, get, house, kept
from .hostile import HTML, LAUGHS, LIES, POLYGLOTS, PROGRAM, SVGS

WALLS = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; sandbox",
    b"cross-origin-resource-policy": b"cross-origin",
}
BARE = "a GIF that goes on as a page"  # and is none behind its head
TYPES = {"png": b"image/png", "jpg": b"image/jpeg", "webp": b"image/webp", "gif": b"image/gif"}


async def test_an_svg_with_a_program_in_it_is_saved_and_not_opened() -> None:
    async with house() as served:
        for name, data in SVGS.items():
            told = await kept(served, data)
            assert told["name"].endswith(".svg"), name
            for query in ("", "?w=256"):
                answer = await get(served, told["path"] + query)
                headers = dict(answer.headers)
                assert (answer.status, answer.body) == (200, data)
                assert headers[b"content-type"] == b"image/svg+xml" and WALLS.items() <= headers.items()
                assert headers[b"content-disposition"] == f'attachment; filename="{told["name"]}"'.encode()


async def test_a_picture_with_a_page_in_it_is_a_picture() -> None:
    async with house() as served:
        for name, (ending, data) in {**POLYGLOTS, "a program": ("gif", PROGRAM)}.items():
            told = await kept(served, data)
            assert told["name"].endswith(f".{ending}"), name
            # Nothing that a client says of it makes it anything else.
            answer = await get(served, told["path"], "Accept: text/html", "Sec-Fetch-Dest: document")
            headers = dict(answer.headers)
            assert answer.body == data and headers[b"content-type"] == TYPES[ending]
            assert WALLS.items() <= headers.items()
            part = await get(served, told["path"], f"Range: bytes={len(data) - 50}-")
            assert part.status == 206 and WALLS.items() <= dict(part.headers).items()
            small = await get(served, told["path"] + "?w=256")
            assert WALLS.items() <= dict(small.headers).items() or code(small) == (422, "thumbnail_unavailable")
            assert b"<script" not in small.body and (small.status == 200 or data in (PROGRAM, POLYGLOTS[BARE][1]))


async def test_what_only_says_that_it_is_a_picture_is_never_kept() -> None:
    async with house() as served:
        for name, data in LIES.items():
            async with RawClient(served.port) as client:
                head = (
                    f"POST /v1/keep HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {len(data)}\r\n"
                )
                answer = await client.ask(f"{head}\r\n".encode() + data)
            assert code(answer) == (502, "not_an_image"), name
            assert b"script" not in answer.body and HTML[:20].encode() not in answer.body
        assert served.house.config.images is not None
        files = [path for path in served.house.config.images.path.rglob("*") if path.is_file()]
        assert {path.parent.name for path in files} <= {"locks"}


@pytest.mark.timeout(20)
async def test_entities_that_multiply_are_not_waited_for() -> None:
    async with house() as served:
        async with RawClient(served.port) as client:
            head = f"POST /v1/keep HTTP/1.1\r\nHost: a\r\nContent-Length: {len(LAUGHS)}\r\n\r\n"
            answer = await client.ask(head.encode() + LAUGHS)
        assert answer.status in (200, 502) and len(orjson.dumps(orjson.loads(answer.body))) < 1000
