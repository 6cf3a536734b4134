"""Faults of the connection: bytes written below aiohttp's framing, which would mend them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiohttp import web

from ..answer import Answer, Said
from ..refusal import Refusal, answer, overloaded, too_large, wrong_key
from .fault import Argument, Fault, Play, does_not_fit, seconds, words
from .instead import rate_limited

# So that even a large answer drips away in a few hundred steps.
_DRIP, _DRIPS = 7, 300
_BLANKS = 5
_TOO_LONG = 100
_NOBODYS = b'{"sandbox":"nobody asked for this"}'
_SECOND_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_NOBODYS),
    _NOBODYS,
)


@dataclass(frozen=True, slots=True)
class _Bytes:
    """The genuine answer as it goes over the wire."""

    head: bytes
    pieces: list[bytes]  # framed
    end: bytes  # what closes the body

    @property
    def all(self) -> bytes:
        return self.head + b"".join(self.pieces) + self.end

    @property
    def half(self) -> list[bytes]:
        """The first half: of the events, or of the bytes where all is in one piece."""
        if len(self.pieces) == 1:
            return [self.pieces[0][: len(self.pieces[0]) // 2]]
        return self.pieces[: len(self.pieces) // 2]


async def _bytes(play: Play, *, chunked: bool | None = None, length: int | None = None) -> _Bytes:
    """Framed as the genuine answer would be, or otherwise."""
    wire, genuine = play.wire, play.genuine
    pieces = await play.pieces()
    if not wire.reads_body:
        pieces = []
    if chunked is None:
        chunked = play.streamed and length is None
    if chunked and wire.chunks:
        return _Bytes(wire.head(genuine, {"Transfer-Encoding": "chunked"}), wire.framed(pieces), b"0\r\n\r\n")
    whole = sum(len(piece) for piece in pieces)
    return _Bytes(wire.head(genuine, {"Content-Length": str(whole if length is None else length)}), pieces, b"")


async def _slow(play: Play) -> Said:
    await play.wire.pause(play.value)
    return play.genuine


async def _drip(play: Play) -> web.StreamResponse:
    data = (await _bytes(play)).all
    step = max(_DRIP, -(-len(data) // _DRIPS))
    for at in range(0, len(data), step):
        await play.wire.raw(data[at : at + step])
        await play.wire.pause(play.value)
    return play.wire.stay()


async def _stall(play: Play) -> web.StreamResponse:
    answer = await _bytes(play)
    await play.wire.raw(answer.head + b"".join(answer.half))
    await play.wire.pause(play.value)
    return play.wire.reset()


async def _cut_headers(play: Play) -> web.StreamResponse:
    head = (await _bytes(play)).head
    await play.wire.raw(head[: len(head) // 2])
    return play.wire.end()


async def _cut_body(play: Play) -> web.StreamResponse:
    answer = await _bytes(play)
    await play.wire.raw(answer.head + b"".join(answer.half))
    return play.wire.end()


async def _cut_chunk(play: Play) -> web.StreamResponse:
    if not play.wire.chunks:
        raise does_not_fit("HTTP/1.0 knows no chunks")
    answer = await _bytes(play, chunked=True)
    before = answer.pieces[: (len(answer.pieces) - 1) // 2]
    cut = answer.pieces[len(before)]
    await play.wire.raw(answer.head + b"".join(before) + cut[: len(cut) // 2])
    return play.wire.end()


async def _wrong_length(play: Play) -> web.StreamResponse:
    body = b"".join(await play.pieces())
    said = Answer(body, content_type=play.genuine.content_type, headers=play.genuine.headers)
    if isinstance(play.genuine, Answer):
        said = replace(said, status=play.genuine.status)
    short = play.value == "short"
    head = play.wire.head(said, {"Content-Length": str(len(body) // 2 if short else len(body) + _TOO_LONG)})
    await play.wire.raw(head + (body if play.wire.reads_body else b""))
    return play.wire.stay() if short else play.wire.end()


async def _reset(play: Play) -> web.StreamResponse:
    return play.wire.reset()


async def _extra(play: Play) -> web.StreamResponse:
    await play.wire.raw((await _bytes(play)).all + _SECOND_ANSWER)
    return play.wire.stay()


async def _blanks(play: Play) -> web.StreamResponse:
    wire = play.wire
    if not wire.chunks:
        raise does_not_fit("HTTP/1.0 knows no chunks")
    answer = await _bytes(play, chunked=True)
    await wire.raw(answer.head)
    (blank,) = wire.framed([b": keepalive\n\n" if play.streamed else b" \n"])
    for _ in range(_BLANKS):
        await wire.raw(blank)
        await wire.pause(play.value)
    await wire.raw(b"".join(answer.pieces) + answer.end)
    return wire.stay()


async def _early(play: Play) -> web.StreamResponse:
    status, rst = play.value
    refused: Answer = _EARLY[status] if status != 429 else rate_limited("seconds", 1.0, wall=play.wall)
    await play.wire.raw(
        play.wire.head(refused, {"Content-Length": str(len(refused.body)), "Connection": "close"}) + refused.body
    )
    return play.wire.reset() if rst else play.wire.end()


_EARLY = {
    400: answer(Refusal("We could not parse the JSON body of your request.")),
    401: answer(wrong_key("")),
    413: answer(too_large()),
    503: answer(overloaded()),
}


def _early_words(text: str) -> tuple[int, bool]:
    status, rst = 429, False
    for word in text.split(","):
        if word == "rst":
            rst = True
        elif word.isdecimal() and (int(word) in _EARLY or int(word) == 429):
            status = int(word)
        else:
            raise ValueError(text)
    return status, rst


TABLE = (
    Fault("slow-first-byte", "Nothing for some time, then the genuine answer.", True, _slow, seconds(5.0)),
    Fault(
        "drip",
        "The genuine answer, head included, 7 bytes at a time (a large one in 300 steps), with a pause after each.",
        True,
        _drip,
        seconds(0.05),
    ),
    Fault(
        "keepalive-blanks",
        "A chunked 200, five blanks (in a stream: comments) with a pause after each, then the genuine body.",
        True,
        _blanks,
        seconds(1.0),
    ),
    Fault(
        "stall-midstream",
        "The head and half the body, then nothing; after a long time the connection is reset.",
        True,
        _stall,
        seconds(600.0),
    ),
    Fault("cut-headers", "Half the head, then the connection closes.", True, _cut_headers),
    Fault(
        "cut-body",
        "The head and half the body (of a stream: whole events, no end), then the connection closes.",
        True,
        _cut_body,
    ),
    Fault(
        "cut-chunk",
        "A chunked answer that ends in the middle of a chunk, then the connection closes.",
        True,
        _cut_chunk,
    ),
    Fault(
        "wrong-length",
        f"The genuine answer with a `content-length` that is {_TOO_LONG} too long, then the connection closes; or with "
        "half of it (short), and the connection stays.",
        True,
        _wrong_length,
        words("long", "short"),
    ),
    Fault(
        "extra-bytes",
        "The genuine answer and, right behind it, a second one that nobody asked for; the connection stays.",
        True,
        _extra,
    ),
    Fault("reset", "The connection is reset (RST) after the request was read and before any answer.", True, _reset),
    Fault(
        "early-refusal",
        "A refusal with `connection: close` before the body is read, then the connection closes (or is reset).",
        False,
        _early,
        Argument("429, 400, 401, 413 or 503, and rst, with a comma between (default 429)", _early_words, (429, False)),
        early=True,
    ),
)
