"""A valid request with a few bytes changed, many times over: never an answer too many, never a hang, never dirt."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.testkit import Served, serve

from .strict import PATIENCE, Dirt, Heard, StrictUpstream, read, speak, statuses
from .telling import config

INNER = b"GET /v1/inner HTTP/1.1\r\nHost: me\r\n\r\n"
LAST = b"GET /v1/last HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
COUNTED = (
    b"POST /v1/x HTTP/1.1\r\nHost: me\r\nX-A: b\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\nAuthorization: Bearer x\r\n\r\n" % len(INNER)
) + INNER
CHUNKED = (
    b"POST /v1/x HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
    b"%x\r\n%b\r\n3;a=b\r\nabc\r\n0\r\nX-T: t\r\n\r\n" % (len(INNER), INNER)
)
TELLING = (
    *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b":", b" ", b"\t", b"\x0b", b";", b",", b"-", b"+", b"0", b"1", b"9"),
    *(b"0\r\n\r\n", b"\r\nContent-Length: 0\r\n", b"\r\nTransfer-Encoding: chunked\r\n", b"\r\nConnection: close\r\n"),
    *(b"HTTP/1.0", b"\xff", b"a", b"_", b"%", b"/", b"\r\nX: ", b"\r\n "),
)
PLACES = re.compile(rb"[\r\n:;, 0-9]|Content|Transfer|chunked|HTTP")


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """One of the two requests with one to four changes, most of them where it matters."""
    data = draw(st.sampled_from([COUNTED, CHUNKED, COUNTED + CHUNKED]))
    for _ in range(draw(st.integers(1, 4))):
        places = [found.start() for found in PLACES.finditer(data)] or [0]
        at = draw(st.sampled_from(places)) if draw(st.integers(0, 3)) else draw(st.integers(0, len(data)))
        gone = draw(st.sampled_from([0, 0, 1, 1, 2, 4]))
        data = data[:at] + draw(st.sampled_from([b"", *TELLING])) + data[at + gone :]
    return data


def strictly(data: bytes) -> list[Heard] | None:
    """What the strict reader makes of it; None where it is not all clean and whole."""
    found = []
    with suppress(Dirt):
        while data and (heard := read(data)):
            found.append(heard)
            data = data[len(heard.raw) :]
    return None if data else found


async def ask(served: Served, data: bytes) -> bytes:
    """What the house says; once it has nothing more to say to that, our side is closed, and it must end."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        said = b""
        closed = False
        try:
            writer.write(data)
            while True:
                try:
                    piece = await asyncio.wait_for(reader.read(2**16), PATIENCE if closed else 0.05)
                except TimeoutError:  # it waits for the rest of a body, or for the next request
                    writer.write_eof()
                    closed = True
                    continue
                except ConnectionError:
                    return said
                if not piece:
                    return said
                said += piece
        finally:
            writer.transport.abort()


def test_no_change_of_bytes_makes_an_answer_too_many_a_hang_or_dirt() -> None:
    with asyncio.Runner() as runner:
        upstream = StrictUpstream()
        runner.run(upstream.__aenter__())
        house = serve(config(upstream))
        served = runner.run(house.__aenter__())

        @settings(
            max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(changed())
        def holds(data: bytes) -> None:
            upstream.requests.clear()
            said = runner.run(ask(served, data + LAST))
            heard = [(one.method, one.target, one.body) for one in upstream.requests]
            told = statuses(said)
            assert not upstream.dirt
            assert told.count(200) <= len(heard)
            assert len(told) <= max(1, len(re.findall(rb"(?i)http/", data + LAST)))
            assert not [status for status in told if status >= 500]
            assert b"X-T" not in upstream.raw
            clean = strictly(data + LAST)
            if clean is not None:  # there is but one way to read it: nothing else may have been asked
                wanted = iter([(one.method, one.target, one.body) for one in clean])
                assert all(one in wanted for one in heard) and len(told) <= len(clean)
            upstream.raw = b""
            assert statuses(runner.run(speak(served.port, LAST))) == [200]

        try:
            holds()
        finally:
            runner.run(house.__aexit__(None, None, None))
            runner.run(upstream.__aexit__(None, None, None))
