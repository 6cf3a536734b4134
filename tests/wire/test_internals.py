"""What we lean on in aiohttp is there, and is said in words when it is not."""

from __future__ import annotations

import logging

import aiohttp
import pytest
from aiohttp.http import HttpResponseParser

from proxy.wire import internals


def test_this_aiohttp_is_one_that_the_wire_was_tested_with() -> None:
    internals.check()


@pytest.mark.parametrize("version", ["3.12.15", "3.13.3", "3.14.2", "3.15.0", "4.0.0"])
def test_another_aiohttp_is_refused_in_words(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp, "__version__", version)
    with pytest.raises(RuntimeError, match=f"aiohttp>=3.14.3,<3.15; this is {version}"):
        internals.check()


@pytest.mark.parametrize("version", ["3.14.3", "3.14.5", "3.14.40"])
def test_a_patch_release_will_do(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp, "__version__", version)
    internals.check()


def test_the_pure_python_parser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = type("HttpResponseParser", (), {"__module__": "aiohttp.http_parser"})
    monkeypatch.setattr(internals, "HttpResponseParser", slow)
    with pytest.raises(RuntimeError, match="C parser"):
        internals.check()


async def test_the_parser_hands_out_what_the_link_reads() -> None:
    class Protocol:
        connected = True

        def pause_reading(self) -> None: ...

        def resume_reading(self, resume_parser: bool = True) -> None: ...

    import asyncio

    parser = internals.response_parser(Protocol(), asyncio.get_running_loop(), with_body=True)
    assert isinstance(parser, HttpResponseParser)
    messages, upgraded, tail = parser.feed_data(b"HTTP/1.1 200 Fine\r\nx-A: 1\r\nContent-Length: 4\r\n\r\nab")
    ((message, stream),) = messages
    assert (message.code, message.reason, message.raw_headers[0]) == (200, "Fine", (b"x-A", b"1"))
    assert not message.should_close and not message.chunked and not upgraded and not tail
    assert message.headers["content-length"] == "4"
    assert stream.total_bytes == 2 and not stream.is_eof() and stream.exception() is None
    stream.feed_data(b"cd")
    stream.feed_eof()
    assert stream.is_eof() and stream.read_nowait() == b"abcd"


def test_aiohttps_own_loggers_are_silent() -> None:
    internals.quiet()
    for name in ("aiohttp.server", "aiohttp.web", "aiohttp.access", "aiohttp.websocket", "aiohttp.internal"):
        logger = logging.getLogger(name)
        assert not logger.propagate
        assert all(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
