"""Valid HTTP/1.1 exchanges made up from a few numbers: what is sent, and what must arrive."""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass
from functools import cached_property

from hypothesis import strategies as st

from .raw import HOP_BY_HOP, INWARD

# RFC 9110, 5789, 4918, 3253, 3744, 5323, 10008-to-be QUERY, and a few that only their users know.
METHODS = (
    b"GET POST PUT DELETE PATCH HEAD OPTIONS PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT MKACTIVITY CHECKOUT "
    b"MERGE SEARCH ACL BIND REBIND UNBIND LINK UNLINK PURGE NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH MKCALENDAR SOURCE"
).split()
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # RFC 9110 §5.6.2
VALUE = bytes(one if one >= 0x20 and one != 0x7F else 0x09 if one % 8 == 1 else 0x2C for one in range(0x100))  # §5.5
SEGMENT = [
    *(b"%c" % one for one in b"-._~!$&'()*+,=:@abcxyzABCXYZ0189"),
    b"%20",
    b"%C3%A4",
    b"%3a",
    b"%3F",
    b"%25",
    b"%E2",
]
QUERY = [*SEGMENT, b"/", b"?", b";", b"[", b"]", b"%2F", b"%00", b"%", b"&", b"="]
KNOWN = [
    b"authorization",
    b"Content-Type",
    b"ACCEPT",
    b"accept-encoding",
    b"User-Agent",
    b"Cookie",
    b"x-request-id",
    b"Idempotency-Key",
    b"X-Forwarded-For",
    b"openai-organization",
    b"Range",
    b"If-None-Match",
    b"Date",
    b"X_Under_Score",
    b"x-stainless-retry-count",
]
ANSWERED = [
    b"set-cookie",
    b"Set-Cookie",
    b"ETag",
    b"alt-svc",
    b"x-ratelimit-reset-requests",
    b"Server",
    b"Date",
    b"Via",
]
# Two of these are refused: by the proxy the first one, by aiohttp those that RFC 9110 allows once.
ONCE = set(b"authorization content-type user-agent server etag content-range content-location max-forwards".split())
FRAMING = {b"content-length", b"transfer-encoding", b"host", b"expect", b"connection", b"upgrade"}

Pairs = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Shape:
    """The choices that matter when something fails; the bytes themselves follow from `seed`."""

    method: bytes
    body: str
    size: int
    status: int
    answer: str
    answer_size: int
    seed: int

    @cached_property
    def sent(self) -> Sent:
        """The request."""
        return Sent(self)

    @cached_property
    def said(self) -> Said:
        """The answer."""
        return Said(self)


SIZES = st.sampled_from([0, 1, 2, 17, 255, 4096, 16383, 16385, 65_536, 200_000])
SHAPES = st.builds(
    Shape,
    method=st.sampled_from(METHODS + [b"GET", b"HEAD"] * 3 + [b"POST"] * 9),
    body=st.sampled_from(["none", "counted", "chunked", "gzip", "chunked gzip"]),
    size=SIZES,
    status=st.sampled_from([*range(200, 600), *[200, 204, 304, 413, 429, 500] * 50]),
    answer=st.sampled_from(["counted", "chunked", "close", "counted, close"]),
    answer_size=SIZES,
    seed=st.integers(0, 2**32 - 1),
)


class Sent:
    """A request: `wire` is what the client writes, in pieces; the rest is what the upstream must receive."""

    def __init__(self, shape: Shape) -> None:
        rng = random.Random(f"request {shape.seed}")
        self.target = _target(rng)
        self.body = b"" if shape.body == "none" else _body(rng, shape.size, "gzip" in shape.body)
        chunked = "chunked" in shape.body
        pairs = _pairs(rng, KNOWN, hop_by_hop=INWARD)
        if "gzip" in shape.body:
            pairs.append((b"content-encoding", b"gzip"))
        if shape.body != "none" and not chunked:
            pairs.insert(rng.randint(0, len(pairs)), (_cased(rng, b"content-length"), b"%d" % len(self.body)))
        self.headers = _kept(pairs, INWARD)
        if chunked:
            pairs.insert(rng.randint(0, len(pairs)), (_cased(rng, b"transfer-encoding"), b"chunked"))
        pairs.insert(rng.randint(0, len(pairs)), (_cased(rng, b"host"), b"framegate.test:1"))
        self.line = b"%b %b HTTP/1.1" % (shape.method, self.target)
        raw = self.line + b"\r\n" + _lines(rng, pairs) + b"\r\n" + (_chunks(rng, self.body) if chunked else self.body)
        self.wire = _split(rng, raw)


class Said:
    """An answer: `wire` is what the upstream writes, in pieces; the rest is what the client must receive."""

    def __init__(self, shape: Shape) -> None:
        rng = random.Random(f"answer {shape.seed}")
        self.bodiless = shape.method == b"HEAD" or shape.status in (204, 304)
        self.body = b"" if self.bodiless else _body(rng, shape.answer_size, shape.seed % 5 == 0)
        reason = rng.choice([b"OK", b"", b"Not Quite  Right", _text(rng, 20)])
        self.line = b"HTTP/1.1 %d %b" % (shape.status, reason)
        pairs = _pairs(rng, ANSWERED, hop_by_hop=HOP_BY_HOP)
        length = shape.answer_size if self.bodiless else len(self.body)
        if "counted" in shape.answer and shape.status != 204:
            pairs.insert(rng.randint(0, len(pairs)), (_cased(rng, b"content-length"), b"%d" % length))
        self.headers = _kept(pairs, HOP_BY_HOP)
        self.closes = shape.answer.endswith("close")
        if self.closes and ("counted" in shape.answer or rng.random() < 0.5):
            pairs.append((_cased(rng, b"connection"), b"close"))
        chunked = shape.answer == "chunked"
        if chunked and shape.status != 204:
            pairs.append((_cased(rng, b"transfer-encoding"), b"chunked"))
        early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" if rng.random() < 0.2 else b""
        body = _chunks(rng, self.body) if chunked and not self.bodiless else self.body
        self.wire = _split(rng, early + self.line + b"\r\n" + _lines(rng, pairs) + b"\r\n" + body)


def _target(rng: random.Random) -> bytes:
    segments = []
    for _ in range(rng.randint(1, 4)):
        segment = b"".join(rng.choices(SEGMENT, k=rng.randint(1, 8)))
        segments.append(b"x" + segment if segment.startswith(b".") else segment)  # no dot segment, however it is read
    query = b"?" + b"".join(rng.choices(QUERY, k=rng.randint(0, 30))) if rng.random() < 0.5 else b""
    return b"/v1/" + b"/".join(segments) + query


def _pairs(rng: random.Random, known: list[bytes], *, hop_by_hop: set[bytes]) -> Pairs:
    pairs: Pairs = []
    for _ in range(rng.randint(0, 12)):
        kind = rng.random()
        if kind < 0.4:
            name = rng.choice(known)
        elif kind < 0.5 and pairs:
            name = _cased(rng, rng.choice(pairs)[0])  # a repeat, perhaps spelled otherwise
        elif kind < 0.55:
            name = _cased(rng, rng.choice(sorted(hop_by_hop - FRAMING)))
        else:
            name = b"x" + bytes(rng.choices(TOKEN, k=rng.randint(0, 24)))
        low = name.lower()
        if low in FRAMING or low == b"content-length" or (low in ONCE and any(p[0].lower() == low for p in pairs)):
            continue
        pairs.append((name, b"" if rng.random() < 0.1 else _text(rng, rng.choice([1, 10, 60, 2000]))))
    if pairs and rng.random() < 0.1:  # what Connection names goes no further either
        named = rng.choice([name for name, _ in pairs])
        if named.lower() not in (b"authorization", b"content-type") and b"," not in named:
            pairs.append((_cased(rng, b"connection"), b"keep-alive, " + _cased(rng, named)))
    return pairs


def _kept(pairs: Pairs, dropped: set[bytes]) -> Pairs:
    named = {
        part.strip().lower() for name, value in pairs if name.lower() == b"connection" for part in value.split(b",")
    }
    return [pair for pair in pairs if pair[0].lower() not in dropped | named]


def _text(rng: random.Random, longest: int) -> bytes:
    text = rng.randbytes(rng.randint(1, longest)).translate(VALUE)
    return (b"<" if text[0] in b" \t" else b"") + text + (b">" if text[-1] in b" \t" else b"")


def _cased(rng: random.Random, name: bytes) -> bytes:
    return bytes(rng.choice((letter, ord(chr(letter).upper()), ord(chr(letter).lower()))) for letter in name)


def _lines(rng: random.Random, pairs: Pairs) -> bytes:
    lines = []
    for name, value in pairs:
        # aiohttp's parser refuses a tab behind `chunked`.
        end = b"" if name.lower() == b"transfer-encoding" else rng.choice((b"", b"", b" \t"))
        lines.append(b"%b:%b%b%b\r\n" % (name, rng.choice((b" ", b"", b"  ", b"\t")), value, end))
    return b"".join(lines)


def _body(rng: random.Random, size: int, compressed: bool) -> bytes:
    data = rng.randbytes(size)
    return gzip.compress(data, 1, mtime=0) if compressed else data


def _chunks(rng: random.Random, body: bytes) -> bytes:
    out = []
    at = 0
    while at < len(body):
        size = rng.choice([1, 2, 100, 5000, len(body)]) if len(body) < 20_000 else rng.randint(1, len(body))
        piece = body[at : at + size]
        at += len(piece)
        extension = rng.choice([b"", b"", b";a", b";name=value"])
        line = rng.choice([b"%x", b"%X", b"0%x"]) % len(piece)
        out += [line, extension, b"\r\n", piece, b"\r\n"]
    return b"".join([*out, b"0\r\n\r\n"])


def _split(rng: random.Random, raw: bytes) -> list[bytes]:
    cuts = sorted(rng.randint(0, len(raw)) for _ in range(rng.choice([0, 0, 1, 3])))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
