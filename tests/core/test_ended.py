"""Somebody is told when an answer has ended: once, however it ends, and the bytes go on as they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from proxy.core.ended import told
from proxy.core.reading import read
from proxy.model.body import EMPTY, Body, Bytes
from proxy.model.errors import UpstreamError
from proxy.model.message import Headers, Response
from proxy.model.socket import Message


class Flowing(Body):
    """A body in pieces; an event among them is waited for, an error is raised."""

    def __init__(self, *pieces: bytes | asyncio.Event | Exception) -> None:
        self.length = None
        self._pieces = list(pieces)
        self.closed = 0

    def now(self) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._pieces:
            yield await self.more()

    async def aclose(self) -> None:
        self.closed += 1

    async def more(self) -> bytes:
        if not self._pieces:
            return b""
        piece = self._pieces[0]
        if isinstance(piece, asyncio.Event):
            await piece.wait()
            piece = b"late"
        self._pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece


class Pouring(Flowing):
    async def pour(self, sink: Callable[[bytes], bool], drained: Callable[[], Awaitable[None]]) -> None:
        async for piece in self:
            if not sink(piece):
                await drained()


class Heard:
    """How often it was said that it is over."""

    def __init__(self, body: Body) -> None:
        self.times = 0
        self.answer = told(Response(200, Headers(), body), self._over)

    def _over(self) -> None:
        self.times += 1


@pytest.mark.parametrize("body", [EMPTY, Bytes(b"all of it")])
def test_what_is_here_whole_has_ended(body: Body) -> None:
    heard = Heard(body)
    assert heard.times == 1 and heard.answer.body is body


async def test_the_last_byte_is_the_end() -> None:
    heard = Heard(Flowing(b"a", b"b"))
    pieces = []
    async for piece in heard.answer.body:
        assert heard.times == 0
        pieces.append(piece)
    assert (pieces, heard.times) == ([b"a", b"b"], 1)
    await heard.answer.aclose()
    assert heard.times == 1


async def test_so_is_a_break() -> None:
    heard = Heard(Flowing(b"a", UpstreamError("cut", sent=True)))
    with pytest.raises(UpstreamError):
        await heard.answer.body.read(99)
    assert heard.times == 1


async def test_so_is_being_let_go_of() -> None:
    body = Flowing(b"a", b"b")
    heard = Heard(body)
    await heard.answer.aclose()
    assert (heard.times, body.closed) == (1, 1)


async def test_so_is_a_reader_who_is_cancelled() -> None:
    heard = Heard(Flowing(b"a", asyncio.Event()))
    reader = asyncio.ensure_future(heard.answer.body.read(99))
    await asyncio.sleep(0)
    assert heard.times == 0
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    assert heard.times == 1


async def test_what_is_poured_ends_with_the_pouring() -> None:
    heard = Heard(Pouring(b"a", b"b"))
    pieces: list[bytes] = []

    def sink(piece: bytes) -> bool:
        assert heard.times == 0
        pieces.append(piece)
        return True

    async def drained() -> None:
        raise AssertionError("it never has enough")

    pour = heard.answer.body.pour  # type: ignore[attr-defined]
    await pour(sink, drained)
    assert (pieces, heard.times) == ([b"a", b"b"], 1)
    assert Heard(Flowing(b"a")).answer.body.pour is None  # type: ignore[attr-defined]


async def test_a_look_ahead_that_is_cancelled_is_no_end() -> None:
    event = asyncio.Event()
    heard = Heard(Flowing(b"a", event))
    more = heard.answer.body.more  # type: ignore[attr-defined]
    assert await more() == b"a"
    waiting = asyncio.ensure_future(more())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert heard.times == 0
    event.set()
    assert (await more(), heard.times) == (b"late", 0)
    assert (await more(), heard.times) == (b"", 1)


async def test_a_look_ahead_into_a_break_is_one() -> None:
    heard = Heard(Flowing(UpstreamError("cut", sent=True)))
    with pytest.raises(UpstreamError):
        await heard.answer.body.more()  # type: ignore[attr-defined]
    assert heard.times == 1


async def test_the_reader_of_answers_stands_outside_it() -> None:
    heard = Heard(Pouring(b'{"data":[{"b64_json":"', b'iVBORw0KGgoAAAANSUhEUg=="}]}'))
    answer = read(Response(200, Headers.of(content_type="application/json"), heard.answer.body))
    assert answer.reading is not None and await answer.reading.verdict() == "image"
    assert len(await answer.body.read(99)) == 50 and heard.times == 1


class Talking:
    """A socket that says one thing and ends."""

    def __init__(self) -> None:
        self.left = [Message("text", b"hi"), Message("close")]
        self.closed = False

    async def receive(self) -> Message:
        return self.left.pop(0)

    async def send(self, message: Message) -> None:
        self.left.insert(0, message)

    async def close(self, code: int = 1000, reason: bytes = b"") -> None:
        self.closed = True


async def test_a_socket_ends_when_either_side_says_so() -> None:
    times: list[int] = []
    for ends in (True, False):
        end = Talking()
        answer = told(Response(101, socket=end), lambda: times.append(1))
        socket = answer.socket
        assert socket is not None
        await socket.send(Message("text", b"back"))
        assert [(await socket.receive()).data for _ in range(2)] == [b"back", b"hi"]
        before = len(times)
        if ends:
            await socket.receive()
        await answer.aclose()
        assert end.closed and len(times) == before + 1
