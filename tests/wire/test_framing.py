"""Requests that two readers could cut apart differently: one refusal, a closed connection, nothing for upstream."""

from __future__ import annotations

import asyncio

import pytest

from proxy.model.errors import Rejected
from proxy.model.exchange import Exchange
from proxy.model.message import Request, Response
from proxy.model.plugin import Forward
from proxy.testkit import RawClient, serve

from .strict import StrictUpstream, speak, statuses
from .telling import config

HIDDEN = b"GET /v1/hidden HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\r\n"
AFTER = b"GET /v1/after HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
END = b"0\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n" + END
LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"


def post(*headers: bytes, body: bytes = b"", line: bytes = b"POST /v1/x HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: me", *headers)) + b"\r\n\r\n" + body


def coded(coding: bytes) -> bytes:
    return post(b"Transfer-Encoding:" + coding, body=CHUNKS)


def counted(length: bytes) -> bytes:
    return post(b"Content-Length:" + length, body=b"hello")


def chunked(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


def lined(line: bytes) -> bytes:
    return line + b"\r\nHost: me\r\n\r\n"


REFUSED = {
    # Two framings at once
    "CL.TE": post(b"Content-Length: 6", CHUNKED, body=END + b"G"),
    "TE.CL": post(CHUNKED, b"Content-Length: 4", body=b"5c\r\n" + CHUNKS),
    "TE and CL that agree": post(CHUNKED, b"Content-Length: 15", body=CHUNKS),
    "TE twice": post(CHUNKED, CHUNKED, body=CHUNKS),
    "TE chunked then identity": post(CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS),
    "TE identity then chunked": post(b"Transfer-Encoding: identity", CHUNKED, body=CHUNKS),
    "TE empty and CL": post(b"Transfer-Encoding:", LENGTH, body=b"hello"),
    "TE identity and CL": post(b"Transfer-Encoding: identity", LENGTH, body=b"hello"),
    # Transfer codings that are not chunked to everybody
    "TE xchunked": coded(b" xchunked"),
    "TE chunkedx": coded(b" chunkedx"),
    "TE vertical tab": coded(b"\x0bchunked"),
    "TE blank, vertical tab": coded(b" \x0bchunked"),
    "TE form feed": coded(b" \x0cchunked"),
    "TE vertical tab behind": coded(b" chunked\x0b"),
    "TE chunked, identity": coded(b" chunked, identity"),
    "TE identity, chunked": coded(b" identity, chunked"),
    "TE gzip, chunked": coded(b" gzip, chunked"),
    "TE chunked, chunked": coded(b" chunked, chunked"),
    "TE comma in front": coded(b" ,chunked"),
    "TE comma behind": coded(b" chunked,"),
    "TE identity": coded(b" identity"),
    "TE empty": coded(b""),
    "TE quoted": coded(b' "chunked"'),
    "TE with a parameter": coded(b" chunked;q=1"),
    "TE with a Kelvin sign": coded(" chun\u212aed".encode()),
    "TE, blank before the colon": post(b"Transfer-Encoding : chunked", body=CHUNKS),
    "TE, tab before the colon": post(b"Transfer-Encoding\t: chunked", body=CHUNKS),
    "TE, blank before the name": post(b" Transfer-Encoding: chunked", body=CHUNKS),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked", body=CHUNKS),
    "TE folded into another": post(b"X: y\r\n Transfer-Encoding: chunked", body=CHUNKS),
    "TE behind a bare CR": post(b"X: y\rTransfer-Encoding: chunked", body=CHUNKS),
    "TE behind a bare LF": post(b"X: y\nTransfer-Encoding: chunked", body=CHUNKS),
    "TE in HTTP/1.0": post(CHUNKED, line=b"POST /v1/x HTTP/1.0", body=CHUNKS),
    "TE in kept HTTP/1.0": post(CHUNKED, b"Connection: keep-alive", line=b"POST /v1/x HTTP/1.0", body=CHUNKS),
    "TE and CL in HTTP/1.0": post(CHUNKED, LENGTH, line=b"POST /v1/x HTTP/1.0", body=CHUNKS),
    # Lengths
    "CL twice, the same": post(LENGTH, LENGTH, body=b"hello"),
    "CL twice, different": post(LENGTH, b"Content-Length: 6", body=b"hello"),
    "CL list": counted(b" 5, 5"),
    "CL +5": counted(b" +5"),
    "CL -1": counted(b" -1"),
    "CL hex": counted(b" 0x5"),
    "CL two numbers": counted(b"  5 5"),
    "CL 10**30": counted(b" 1" + b"0" * 30),
    "CL 2**63": counted(b" 9223372036854775808"),
    "CL 2**64 - 1": counted(b" 18446744073709551615"),
    "CL 2**64 + 5": counted(b" 18446744073709551621"),
    "CL empty": counted(b""),
    "CL 5.0": counted(b" 5.0"),
    "CL 5e0": counted(b" 5e0"),
    "CL vertical tab behind": counted(b" 5\x0b"),
    "CL Arabic digit": counted(" \u0665".encode()),
    "CL, blank before the colon": post(b"Content-Length : 5", body=b"hello"),
    "CL folded": counted(b"\r\n 5"),
    # Chunks
    "chunk 0x5": chunked(b"0x5\r\nhello\r\n" + END),
    "chunk, blank behind the size": chunked(b"5 \r\nhello\r\n" + END),
    "chunk, blank before the size": chunked(b" 5\r\nhello\r\n" + END),
    "chunk +5": chunked(b"+5\r\nhello\r\n" + END),
    "chunk -5": chunked(b"-5\r\nhello\r\n" + END),
    "chunk 0_5": chunked(b"0_5\r\nhello\r\n" + END),
    "chunk without a size": chunked(b"\r\nhello\r\n" + END),
    "chunk size overflows": chunked(b"10000000000000005\r\nhello\r\n" + END),
    "chunk longer than it says": chunked(b"5\r\nhelloX\r\n" + END),
    "chunk shorter than it says": chunked(b"5\r\nhell\r\n" + END),
    "chunk size ends in LF": chunked(b"5\nhello\r\n" + END),
    "chunk ends in LF": chunked(b"5\r\nhello\n" + END),
    "chunk extension ends in LF": chunked(b"5;a=b\nhello\r\n" + END),
    "chunk extension with a bare LF": chunked(b"5;a\nb\r\nhello\r\n" + END),
    "chunk extension with a bare CR": chunked(b"5;a\rb\r\nhello\r\n" + END),
    "chunk extension with NUL": chunked(b"5;a\0\r\nhello\r\n" + END),
    "last chunk ends in LF": chunked(b"5\r\nhello\r\n0\n\n"),
    "last line ends in LF": chunked(b"5\r\nhello\r\n0\r\n\n"),
    "trailer Content-Length": chunked(b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"),
    "trailer that is none": chunked(b"5\r\nhello\r\n0\r\nX Evil: 1\r\n\r\n"),
    "trailer ends in LF": chunked(b"5\r\nhello\r\n0\r\nX: 1\n\r\n\r\n"),
    # Lines and names
    "LF everywhere": b"POST /v1/x HTTP/1.1\nHost: me\nContent-Length: 5\n\nhello",
    "LF behind the request line": b"GET /v1/x HTTP/1.1\nHost: me\r\n\r\n",
    "LF behind a header": b"POST /v1/x HTTP/1.1\r\nHost: me\nContent-Length: 5\r\n\r\nhello",
    "LF for the empty line": b"GET /v1/x HTTP/1.1\r\nHost: me\r\n\n",
    "CR behind the request line": b"GET /v1/x HTTP/1.1\rHost: me\r\n\r\n",
    "CR in a value": post(b"X: a\rb"),
    "CR twice": b"GET /v1/x HTTP/1.1\r\nHost: me\r\r\n\r\n",
    "NUL in a name": post(b"X\0Y: a"),
    "NUL in a value": post(b"X: a\0b"),
    "NUL in the path": lined(b"GET /v1/x\0 HTTP/1.1"),
    "control in a name": post(b"X\x01: a"),
    "control in a value": post(b"X: a\x01b"),
    "blank before a name": post(b" X: a"),
    "blank before the first name": b"GET /v1/x HTTP/1.1\r\n Host: me\r\n\r\n",
    "blank in a name": post(b"X Y: a"),
    "blank behind a name": post(b"X : a"),
    "tab behind a name": post(b"X\t: a"),
    "folded with a blank": post(b"X: a\r\n b"),
    "folded with a tab": post(b"X: a\r\n\tb"),
    "empty name": post(b": a"),
    "no colon": post(b"XY"),
    "name in quotes": post(b'"X": a'),
    "name not in ASCII": post(b"X\xe9: a"),
    # Request lines and what is no HTTP/1.1
    "no Host": b"GET /v1/x HTTP/1.1\r\n\r\n",
    "two Hosts, the same": post(b"Host: me"),
    "two Hosts": post(b"Host: you"),
    "HTTP/0.9": b"GET /v1/x\r\n",
    "HTTP/1.2": lined(b"GET /v1/x HTTP/1.2"),
    "HTTP/2.0": lined(b"GET /v1/x HTTP/2.0"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http in small letters": lined(b"GET /v1/x http/1.1"),
    "ICE": lined(b"GET /v1/x ICE/1.1"),
    "unknown method": lined(b"FROB /v1/x HTTP/1.1"),
    "method in small letters": lined(b"get /v1/x HTTP/1.1"),
    "tab behind the method": lined(b"GET\t/v1/x HTTP/1.1"),
    "blank before the method": lined(b" GET /v1/x HTTP/1.1"),
    "blank behind the version": lined(b"GET /v1/x HTTP/1.1 "),
    "blank in the path": lined(b"GET /v1/x y HTTP/1.1"),
    "TLS hello": bytes.fromhex("16030100a5010000a1030376") + bytes(150),
    "CONNECT": b"CONNECT evil.com:443 HTTP/1.1\r\nHost: evil.com:443\r\n\r\n",
    "CONNECT with a path": lined(b"CONNECT /v1/x HTTP/1.1"),
    "TRACE": lined(b"TRACE /v1/x HTTP/1.1"),
    "a path of 20 KB": lined(b"GET /v1/" + b"x" * 20_000 + b" HTTP/1.1"),
    "a value of 20 KB": post(b"X: " + b"x" * 20_000),
    "a name of 20 KB": post(b"X" * 20_000 + b": y"),
    "200 headers": post(*[b"X-%d: y" % number for number in range(200)]),
}

# What looks odd and is not: read by everybody as the same, so it is served, and the next request too.
SERVED = {
    "TE behind a tab": (coded(b"\tchunked"), b"hello"),
    "TE in capitals": (coded(b" CHUNKED"), b"hello"),
    "TE and a blank behind": (coded(b" chunked "), b"hello"),
    "CL with zeros in front": (counted(b" 00005"), b"hello"),
    "GET with a body": (post(LENGTH, line=b"GET /v1/x HTTP/1.1", body=b"hello"), b"hello"),
    "chunk extension": (chunked(b"5;a=b\r\nhello\r\n" + END), b"hello"),
    "chunk extension in quotes": (chunked(b'5;a="b c"\r\nhello\r\n' + END), b"hello"),
    "chunk size with zeros in front": (chunked(b"0" * 30 + b"5\r\nhello\r\n" + END), b"hello"),
    "trailers": (chunked(b"5\r\nhello\r\n0\r\nX-Evil: 1\r\n\r\n"), b"hello"),
    "Transfer_Encoding": (post(b"Transfer_Encoding: chunked", LENGTH, body=b"hello"), b"hello"),
    "Content_Length": (post(b"Content_Length: 500", LENGTH, body=b"hello"), b"hello"),
    "Expect: nonsense": (post(b"Expect: nonsense", LENGTH, body=b"hello"), b"hello"),
    "Keep-Alive": (
        post(b"Keep-Alive: timeout=5, max=1000", b"Connection: keep-alive", LENGTH, body=b"hello"),
        b"hello",
    ),
    "TE: trailers": (post(b"TE: trailers", b"Connection: TE", LENGTH, body=b"hello"), b"hello"),
    "Upgrade without Connection": (post(b"Upgrade: websocket", LENGTH, body=b"hello"), b"hello"),
    "Connection names the framing": (
        post(b"Connection: Content-Type, Host, Content-Length, Transfer-Encoding", LENGTH, body=b"hello"),
        b"hello",
    ),
    "a body that is a request": (post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN), HIDDEN),
    "empty lines in front": (b"\r\n\r\n" + post(LENGTH, body=b"hello"), b"hello"),
    "bytes beyond ASCII in a value": (post(b"X: \xe9\xff", LENGTH, body=b"hello"), b"hello"),
}

# An upgrade that nobody grants: served as what it is without one. What stands behind it in the same piece is lost in
# aiohttp's parser, so the answer says that the connection ends, and the client asks again (RFC 9112 §9.3.2).
UNGRANTED = {
    "h2c": post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "h2c with a body": post(b"Connection: Upgrade", b"Upgrade: h2c", LENGTH, body=b"hello"),
    "h2c with chunks": post(b"Connection: Upgrade", b"Upgrade: h2c", CHUNKED, body=CHUNKS),
    "WebSocket by POST": post(b"Connection: Upgrade", b"Upgrade: websocket", LENGTH, body=b"hello"),
}

WAYS = pytest.mark.parametrize("drip", [False, True], ids=["at once", "byte by byte"])


def table(attacks: dict[str, bytes]) -> pytest.MarkDecorator:
    """Each of them, at once and, where it is short, byte by byte."""
    cases = [
        pytest.param(attack, drip, id=f"{name}{', byte by byte' if drip else ''}")
        for name, attack in attacks.items()
        for drip in (False, True)
        if not drip or len(attack) < 1000
    ]
    return pytest.mark.parametrize(("attack", "drip"), cases)


@table(REFUSED)
async def test_is_refused_once_and_closed_and_reaches_nobody(attack: bytes, drip: bool) -> None:
    async with StrictUpstream() as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, attack + HIDDEN, drip=drip)
        assert len(statuses(said)) == 1 and 400 <= statuses(said)[0] < 500
        assert b"\r\nconnection: close\r\n" in said.lower() and b'"error":' in said
        assert not upstream.requests and not upstream.dirt
        assert statuses(await speak(served.port, HIDDEN)) == [200]


@WAYS
@pytest.mark.parametrize(("odd", "body"), SERVED.values(), ids=SERVED)
async def test_is_odd_but_clear_and_served(odd: bytes, body: bytes, drip: bool) -> None:
    async with StrictUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        for piece in [odd[at : at + 1] for at in range(len(odd))] if drip else [odd]:
            await client.send(piece)
            await asyncio.sleep(0)  # the house runs in this loop: it reads before the next piece leaves
        assert (await client.answer()).body == odd.split(b" ")[0].lstrip() + b" /v1/x " + body
        assert (await client.ask(HIDDEN)).body == b"GET /v1/hidden "
        assert await client.ended() == b"" and len(upstream.requests) == 2 and not upstream.dirt
        assert upstream.requests[0].body == body
        for heard in upstream.requests:
            assert not any(heard.all(name) for name in (b"x-evil", b"te", b"trailer", b"expect", b"upgrade"))


@pytest.mark.parametrize("body", [b"hello", HIDDEN])
async def test_pipelined_requests_are_answered_each_with_its_own(body: bytes) -> None:
    both = post(b"Content-Length: %d" % len(body), body=body) + AFTER
    async with StrictUpstream() as upstream, serve(config(upstream)) as served:
        assert statuses(await speak(served.port, both)) == [200, 200]
        assert [heard.target for heard in upstream.requests] == [b"/v1/x", b"/v1/after"] and not upstream.dirt


@WAYS
async def test_the_trailers_of_one_request_are_never_the_headers_of_the_next(drip: bool) -> None:
    # aiohttp's parser keeps the last one, and a proxy before us may send two people's requests on one connection.
    trailers = b"0\r\nX-First: 1\r\nAuthorization: Bearer evil\r\n\r\n"
    async with StrictUpstream() as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, chunked(b"5\r\nhello\r\n" + trailers) + HIDDEN, drip=drip)
        assert statuses(said)[0] == 200
        async with RawClient(served.port) as client:
            assert (await client.ask(chunked(b"5\r\nhello\r\n" + trailers))).status == 200
            assert (await client.ask(HIDDEN)).status == 200
        assert len(upstream.requests) >= 3 and not upstream.dirt
        assert b"evil" not in upstream.raw.replace(b"Host: evil", b"") and b"X-First" not in upstream.raw


@table(UNGRANTED)
async def test_an_upgrade_that_nobody_grants_is_an_ordinary_request_and_the_last(attack: bytes, drip: bool) -> None:
    async with StrictUpstream() as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, attack + HIDDEN, drip=drip)
        assert statuses(said) == [200] and b"\r\nConnection: close\r\n" in said
        (heard,) = upstream.requests
        assert heard.target == b"/v1/x" and heard.body == (b"hello" if b"hello" in attack else b"")
        assert not any(heard.all(name) for name in (b"upgrade", b"connection", b"http2-settings"))
        assert not upstream.dirt


async def test_a_chunk_that_would_never_end_swallows_what_follows_and_upstream_never_hears_an_end() -> None:
    async with StrictUpstream() as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            await client.send(chunked(b"f" * 16 + b"\r\nhello") + HIDDEN)
        await served.ended(1)
        assert not upstream.requests and not upstream.dirt


async def test_two_authorization_headers_are_refused_and_the_next_request_is_not_lost() -> None:
    async with StrictUpstream() as upstream, serve(config(upstream)) as served:
        said = await speak(served.port, post(b"Authorization: Bearer a", b"authorization: Bearer b") + HIDDEN)
        assert statuses(said) == [400, 200]
        assert [heard.target for heard in upstream.requests] == [b"/v1/hidden"]


# --- Bodies that nobody reads


async def refuses(exchange: Exchange, request: Request, forward: Forward) -> Response:
    raise Rejected("No key.", status=401, type="authentication_error", code="unauthorized")


INNER = HIDDEN * 20
UNREAD = {
    "counted": post(b"Content-Length: %d" % len(INNER), body=INNER),
    "chunked": post(CHUNKED, body=b"%x\r\n%b\r\n" % (len(INNER), INNER) + END),
    "counted, half sent": post(b"Content-Length: %d" % (2 * len(INNER)), body=INNER),
    "chunked, half sent": post(CHUNKED, body=b"%x\r\n%b" % (2 * len(INNER), INNER)),
}


@WAYS
@pytest.mark.parametrize("refusal", [401, 413])
@pytest.mark.parametrize("attack", UNREAD.values(), ids=UNREAD)
async def test_the_unread_body_of_a_refused_request_is_never_a_request(attack: bytes, refusal: int, drip: bool) -> None:
    layers, server = ((refuses,), "") if refusal == 401 else ((), 'max_body = "1KiB"')
    async with StrictUpstream() as upstream, serve(config(upstream, *layers, server=server)) as served:
        said = await speak(served.port, attack + AFTER, drip=drip)
        first, *others = statuses(said)
        assert first == refusal
        if others:  # the body was read off to its end, and what stood behind it was asked
            assert others == ([401] if refusal == 401 else [200])
        else:
            assert b"\r\nconnection: close\r\n" in said.lower()
        assert all(heard.target == b"/v1/after" for heard in upstream.requests) and not upstream.dirt
        assert {line["path"] for line in await served.ended(1 + len(others))} <= {"/v1/x", "/v1/after"}
