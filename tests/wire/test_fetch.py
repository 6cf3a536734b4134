"""Fetching what upstreams' URLs lead to, over real sockets, in an internet where one address counts as public."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohappyeyeballs
import pytest

from proxy.model.fetch import FetchFailed, FetchRefused
from proxy.testkit import Call, RawClient, ScriptedUpstream, serve
from proxy.testkit.upstream import Script
from proxy.wire.fetch import Gate

from ..plugins_for_tests import told
from .authority import Authority
from .between import Between
from .fetching import PICTURE, PUBLIC, URL, Fetching, Internet, counted, fetching, origin, redirected
from .telling import GET, chunk, config, until
from .test_dial import blackhole
from .test_place import NOT_FOR_STRANGERS, UNREADABLE
from .test_public import CLOSED

SECRET = "s3cr3t"  # stands in each URL's query


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def believed(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says whose certificates are believed, as an operator would."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    return authority.server("cdn.test", "other.test", "third.test", "fourth.test", PUBLIC)


@pytest.fixture
async def cdn(tls: ssl.SSLContext) -> AsyncIterator[ScriptedUpstream]:
    """A public server; at the end nobody is connected to it any more."""
    async with ScriptedUpstream(counted(), tls=tls) as server:
        yield server
        await until(lambda: not server.open)


async def failed(fetch: Fetching, url: str = URL, **given: Any) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetch.read(url, **given)
    return unspoken(caught.value)


async def refused(fetch: Fetching, url: str = URL, **given: Any) -> FetchRefused:
    with pytest.raises(FetchRefused) as caught:
        await fetch.read(url, **given)
    return unspoken(caught.value)


def unspoken(error: Any) -> Any:
    """The same error, having seen that it tells nobody what stood in the URL, however it is shown."""
    shown = "".join(traceback.format_exception(error)) + f"{error!r} {error.message} {vars(error)}"
    assert SECRET not in shown and "X-Signature" not in shown
    return error


# --- what is asked, and what comes


@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_a_picture_comes_from_a_public_name_as_it_is(cdn: ScriptedUpstream, framing: str) -> None:
    if framing == "chunked":
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/PNG; a=b\r\nTransfer-Encoding: chunked\r\n\r\n"
        cdn.answer = head + chunk(PICTURE[:7]) + chunk(PICTURE[7:]) + b"0\r\n\r\n"
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            assert (fetched.media, fetched.length) == ("image/png", len(PICTURE) if framing == "counted" else None)
            assert b"".join([piece async for piece in fetched]) == PICTURE
            assert [piece async for piece in fetched] == []


async def test_the_server_learns_nothing_of_anybody(
    cdn: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine cdn.test login ann password s3cr3t\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    cdn.answer = counted(PICTURE, b"Set-Cookie: a=b; Path=/; Domain=cdn.test")
    async with fetching(Internet(cdn)) as fetch:
        for _ in range(2):
            await fetch.read("https://cdn.test/a%2fb//%7e?X-Signature=s3cr3t%2B%3d==&x=#fragment")
    for request in cdn.requests:
        assert request.line == b"GET /a%2fb//%7e?X-Signature=s3cr3t%2B%3d==&x= HTTP/1.1"
        assert sorted((name.lower(), value) for name, value in request.headers) == [
            (b"accept", b"image/*"),
            (b"accept-encoding", b"identity"),
            (b"connection", b"close"),
            (b"host", b"cdn.test"),
            (b"user-agent", b"Framegate"),
        ]
    assert len(cdn.requests) == cdn.connections == 2


@pytest.mark.parametrize("url", ["https://cdn.test./a", "https://127.0.0.1/a", "https://CDN.test:443/a"])
async def test_other_ways_to_write_what_is_public(cdn: ScriptedUpstream, url: str) -> None:
    internet = Internet(cdn)
    internet.names[PUBLIC] = [[PUBLIC]]
    async with fetching(internet) as fetch:
        assert await fetch.read(url) == PICTURE
    assert cdn.requests[0].get(b"host") == (PUBLIC.encode() if PUBLIC in url else b"cdn.test")


async def test_an_early_hint_is_no_answer(cdn: ScriptedUpstream) -> None:
    cdn.answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + counted()
    async with fetching(Internet(cdn)) as fetch:
        assert await fetch.read() == PICTURE


# --- where no stranger may lead us


@pytest.mark.parametrize("url", [*UNREADABLE, *(one for one in NOT_FOR_STRANGERS if "//127.0.0.1/" not in one)])
async def test_a_url_that_leads_nowhere_public_is_not_even_looked_up(url: str) -> None:
    internet = Internet()
    async with fetching(internet) as fetch:
        await refused(fetch, url)
    assert internet.asked == []


@pytest.mark.parametrize("address", [one for one in CLOSED if one != PUBLIC])
async def test_a_name_that_is_not_public_is_not_connected(cdn: ScriptedUpstream, address: str) -> None:
    async with fetching(Internet(cdn, evil_test=[[address]])) as fetch:
        error = await refused(fetch, "https://evil.test/?X-Signature=s3cr3t")
    assert CLOSED[address] in error.message and "evil.test" in error.message and address not in error.message
    assert cdn.connections == 0


@pytest.mark.parametrize("addresses", [[PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], [PUBLIC, "::1"]])
async def test_one_private_address_speaks_against_the_name(cdn: ScriptedUpstream, addresses: list[str]) -> None:
    async with fetching(Internet(cdn, evil_test=[addresses])) as fetch:
        await refused(fetch, "https://evil.test/")
    assert cdn.connections == 0


async def test_a_name_that_changes_is_looked_up_once_for_each_connection(cdn: ScriptedUpstream) -> None:
    # DNS rebinding: the first answer is public, each later one leads to this machine.
    internet = Internet(cdn, cdn_test=[[PUBLIC], ["127.0.0.2"]])
    async with fetching(internet) as fetch:
        assert await fetch.read() == PICTURE
        assert internet.asked == ["cdn.test"] and cdn.connections == 1
        await refused(fetch)
        assert internet.asked == ["cdn.test"] * 2 and cdn.connections == 1


async def test_a_name_that_changes_between_two_redirects_is_judged_anew(cdn: ScriptedUpstream) -> None:
    cdn.answer = redirected("/again")
    async with fetching(Internet(cdn, cdn_test=[[PUBLIC], ["127.0.0.2"]])) as fetch:
        await refused(fetch)
    assert len(cdn.requests) == 1


async def test_a_connection_that_leads_elsewhere_is_not_used(
    cdn: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trusting(Internet):
        judge = staticmethod(lambda address: None)

    async def astray(infos: Any, **_: Any) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", cdn.port))
        return sock

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", astray)
    async with fetching(Trusting(cdn, cdn_test=[["8.8.8.8"]])) as fetch:
        error = await refused(fetch)
    assert "elsewhere" in error.message and not cdn.requests


async def test_the_judge_and_the_resolver_of_a_fetcher_are_the_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def names(name: str, port: int, **_: Any) -> Any:
        asked.append((name, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", names)
    async with ScriptedUpstream(b"https://evil.test/?X-Signature=s3cr3t") as upstream:
        lent: list[Any] = []

        async def running(services: Any) -> AsyncIterator[None]:
            lent.append(services)
            yield

        async def layer(exchange: Any, request: Any, forward: Any) -> Any:
            async with lent[0].remote.open("https://evil.test/?X-Signature=s3cr3t", upstream="only", limit=9):
                raise AssertionError("it was opened")

        text = config(upstream, told(layer, running))
        async with serve(text) as served, RawClient(served.port) as client:
            heard = await client.ask(GET)
            assert heard.status == 502 and b"fetch_refused" in heard.body and b"loopback" in heard.body
            assert SECRET.encode() not in heard.body + served.raw_log
    assert asked == [("evil.test", 443)]


async def test_a_plugin_of_a_house_fetches_from_its_upstream() -> None:
    lent: list[Any] = []

    async def running(services: Any) -> AsyncIterator[None]:
        lent.append(services)
        yield

    async with ScriptedUpstream() as upstream:
        upstream.script = by_path({b"/v1/x": counted(b"{}"), b"/a.png": counted()})

        async def layer(exchange: Any, request: Any, forward: Any) -> Any:
            response = await forward(request)
            url = f"http://127.0.0.1:{upstream.port}/a.png?X-Signature=s3cr3t"
            async with lent[0].remote.open(url, upstream="only", limit=2**20) as fetched:
                return response.with_body(b"".join([piece async for piece in fetched]))

        async with serve(config(upstream, told(layer, running))) as served, RawClient(served.port) as client:
            assert (await client.ask(GET)).body == PICTURE
            assert SECRET.encode() not in served.raw_log


# --- the upstream's own origin


def by_path(answers: dict[bytes, bytes]) -> Script:
    async def script(call: Call) -> None:
        await call.body()
        await call.send(answers[call.received.target.partition(b"?")[0]])

    return script


async def test_the_upstreams_own_origin_may_be_anywhere(cdn: ScriptedUpstream) -> None:
    async with ScriptedUpstream(counted()) as upstream:
        base = f"http://127.0.0.1:{upstream.port}"
        own = {"own": origin(upstream), "other": origin("http://127.0.0.1:1/v1")}
        async with fetching(Internet(cdn), origins=own) as fetch:
            assert await fetch.read(f"{base}/a.png?X-Signature=s3cr3t", upstream="own") == PICTURE
            assert upstream.requests[0].line == b"GET /a.png?X-Signature=s3cr3t HTTP/1.1"
            assert upstream.requests[0].get(b"host") == f"127.0.0.1:{upstream.port}".encode()
            for name in ("other", "unknown", None):
                await refused(fetch, f"{base}/a.png", upstream=name)
            for url in (
                f"http://127.0.0.1:{upstream.port ^ 1}/a.png",
                f"https://127.0.0.1:{upstream.port}/a.png",
                f"http://localhost:{upstream.port}/a.png",
                f"http://127.0.0.1.:{upstream.port}/a.png",
                f"http://127.1:{upstream.port}/a.png",
                f"http://ann:s3cr3t@127.0.0.1:{upstream.port}/a.png",
                "http://127.0.0.1/a.png",
            ):
                await refused(fetch, url, upstream="own")
            assert await fetch.read(upstream="own") == PICTURE  # public places are open beside it
        assert len(upstream.requests) == 1


async def test_its_own_certificates_are_believed_there_and_nowhere_else(tmp_path: Path) -> None:
    inner = Authority(tmp_path)
    async with ScriptedUpstream(counted(), tls=inner.server("cdn.test", PUBLIC)) as upstream:
        url = f"https://127.0.0.1:{upstream.port}/a.png"
        own = {"own": origin(upstream, ca_file=inner.ca_file), "bare": origin(upstream)}
        async with fetching(Internet(upstream), origins=own) as fetch:
            assert await fetch.read(url, upstream="own") == PICTURE
            assert "certificate" in (await failed(fetch, url, upstream="bare")).message
            assert "certificate" in (await failed(fetch, upstream="own")).message


async def test_an_origin_that_is_gone_is_a_failure_in_words() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with fetching(origins={"own": origin(base)}) as fetch:
            error = await failed(fetch, f"{base}/a.png", upstream="own")
    assert "Connection refused" in error.message and not error.timeout


# --- redirects


@pytest.mark.parametrize("status", [b"301 A", b"302 A", b"303 A", b"307 A", b"308 A"])
async def test_redirects_are_followed_each_to_a_place_of_its_own(cdn: ScriptedUpstream, status: bytes) -> None:
    cdn.script = by_path(
        {
            b"/a.png": redirected("https://other.test/b?X-Signature=s3cr3t", b"Set-Cookie: a=b", status=status),
            b"/b": redirected("//third.test/c", status=status),
            b"/c": redirected("d?e", status=status),
            b"/d": counted(),
        }
    )
    async with fetching(Internet(cdn, other_test=[[PUBLIC]], third_test=[[PUBLIC]])) as fetch:
        assert await fetch.read() == PICTURE
    assert [request.get(b"host") for request in cdn.requests] == [
        b"cdn.test",
        b"other.test",
        b"third.test",
        b"third.test",
    ]
    told = {name.lower() for request in cdn.requests for name, _ in request.headers}
    assert told == {b"accept", b"accept-encoding", b"connection", b"host", b"user-agent"}
    assert cdn.connections == 4


async def test_a_fourth_redirect_is_not_followed(cdn: ScriptedUpstream) -> None:
    cdn.answer = redirected("")
    async with fetching(Internet(cdn)) as fetch:
        assert "more than 3" in (await failed(fetch)).message
    assert len(cdn.requests) == 4


@pytest.mark.parametrize(
    "to",
    [
        "http://cdn.test/a.png?X-Signature=s3cr3t",
        "https://169.254.169.254/latest/meta-data/",
        "http://169.254.169.254/latest/meta-data/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://2852039166/",
        "https://metadata.google.internal/",
        "https://evil.test/?X-Signature=s3cr3t",
        "https://cdn.test:8443/?X-Signature=s3cr3t",
        "https://user:s3cr3t@cdn.test/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "https://[",
        "//127.0.0.2",
    ],
)
async def test_a_redirect_leads_nowhere_that_the_url_could_not(cdn: ScriptedUpstream, to: str) -> None:
    cdn.answer = redirected(to)
    async with fetching(Internet(cdn, evil_test=[["169.254.169.254"]])) as fetch:
        await refused(fetch)
    assert len(cdn.requests) == 1


@pytest.mark.parametrize("lines", [[], [b"Location: /a", b"Location: /b"]])
async def test_a_redirect_must_say_where_to_and_once(cdn: ScriptedUpstream, lines: list[bytes]) -> None:
    cdn.answer = counted(b"", *lines, status=b"302 Found")
    async with fetching(Internet(cdn)) as fetch:
        assert (await failed(fetch)).answered == 302


async def test_from_its_own_origin_a_redirect_is_judged_as_any_other(cdn: ScriptedUpstream) -> None:
    async with ScriptedUpstream(counted()) as neighbour, ScriptedUpstream() as upstream:
        base = f"http://127.0.0.1:{upstream.port}"
        upstream.script = by_path(
            {
                b"/near": redirected("/a.png"),
                b"/a.png": counted(),
                b"/away": redirected(URL),
                b"/beside": redirected(f"http://127.0.0.1:{neighbour.port}/a.png"),
                b"/metadata": redirected("http://169.254.169.254/"),
            }
        )
        async with fetching(Internet(cdn), origins={"own": origin(upstream)}) as fetch:
            assert await fetch.read(f"{base}/near", upstream="own") == PICTURE
            assert await fetch.read(f"{base}/away", upstream="own") == PICTURE
            await refused(fetch, f"{base}/beside", upstream="own")
            await refused(fetch, f"{base}/metadata", upstream="own")
            assert not neighbour.requests


async def test_strangers_do_not_lead_to_its_own_origin(cdn: ScriptedUpstream, tls: ssl.SSLContext) -> None:
    async with ScriptedUpstream(counted(), tls=tls) as upstream:
        cdn.answer = redirected(f"https://127.0.0.1:{upstream.port}/secret.png")
        async with fetching(Internet(cdn), origins={"own": origin(upstream)}) as fetch:
            await refused(fetch, upstream="own")
        assert not upstream.requests


# --- HTTP proxies


async def test_no_proxy_stands_between_us_and_an_address_that_we_judge(cdn: ScriptedUpstream) -> None:
    async with Between(cdn.port) as proxy:
        said = {"HTTPS_PROXY": proxy.url()}
        own = {"own": origin("http://a.test/v1", proxy=proxy.url()), "bare": origin("http://a.test/v1", proxy="none")}
        internet = Internet(cdn)
        async with fetching(internet, environ=said, origins=own) as fetch:
            assert "proxy" in (await refused(fetch)).message
            assert "proxy" in (await refused(fetch, upstream="own")).message
            assert internet.asked == [] and cdn.connections == 0
            assert await fetch.read(upstream="bare") == PICTURE  # its setting holds for its pictures too
        async with fetching(internet, environ={**said, "NO_PROXY": "cdn.test"}) as fetch:
            assert await fetch.read() == PICTURE
        async with fetching(internet, environ={"HTTPS_PROXY": "socks5://ann:s3cr3t@a.test"}) as fetch:
            assert "proxy" in (await refused(fetch)).message
        assert proxy.connections == 0


async def test_its_own_origin_is_reached_as_the_upstream_itself() -> None:
    async with ScriptedUpstream(counted()) as upstream, Between(upstream.port) as proxy:
        way = origin("http://upstream.test/v1", proxy=proxy.url(), through=proxy.url())
        async with fetching(origins={"own": way}) as fetch:
            assert await fetch.read("http://upstream.test/a.png", upstream="own") == PICTURE
        assert proxy.asked[0][0] == b"CONNECT upstream.test:80 HTTP/1.1"


# --- how much


async def test_no_more_than_the_limit_comes_where_it_is_declared(cdn: ScriptedUpstream) -> None:
    async with fetching(Internet(cdn)) as fetch:
        assert await fetch.read(limit=len(PICTURE)) == PICTURE
        with pytest.raises(FetchFailed, match=f"larger than {len(PICTURE) - 1} bytes"):
            async with fetch.open(limit=len(PICTURE) - 1):
                raise AssertionError("it was opened")


async def test_no_more_than_the_limit_comes_where_it_is_not_declared(cdn: ScriptedUpstream) -> None:
    async def endless(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not call.writer.is_closing():
            await call.send(chunk(bytes(2**16)))
            await asyncio.sleep(0)  # asyncio's TLS takes what is written to a connection that is gone, and never waits

    cdn.script = endless
    read = 0
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open(limit=2**20) as fetched:
            with pytest.raises(FetchFailed, match="larger than"):
                async for piece in fetched:
                    read += len(piece)
            with pytest.raises(FetchFailed, match="larger than"):  # and there is no way round it
                await anext(fetched)
    assert read <= 2**20


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"GZIP"])
async def test_what_came_compressed_unasked_is_inflated(cdn: ScriptedUpstream, coding: bytes) -> None:
    cdn.answer = counted(gzip.compress(PICTURE), b"Content-Encoding: " + coding)
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            assert fetched.length is None
            assert b"".join([piece async for piece in fetched]) == PICTURE


async def test_identity_is_no_coding(cdn: ScriptedUpstream) -> None:
    cdn.answer = counted(PICTURE, b"Content-Encoding: identity")
    async with fetching(Internet(cdn)) as fetch:
        assert await fetch.read() == PICTURE


async def test_a_bomb_goes_off_under_the_bounds(cdn: ScriptedUpstream) -> None:
    cdn.answer = counted(gzip.compress(bytes(50_000_000)), b"Content-Encoding: gzip")
    async with fetching(Internet(cdn)) as fetch:
        assert "100 times" in (await failed(fetch, limit=2**30)).message
        assert "larger than 100000 bytes" in (await failed(fetch, limit=100_000)).message


@pytest.mark.parametrize(
    "lines",
    [[b"Content-Encoding: br"], [b"Content-Encoding: gzip, gzip"], [b"Content-Encoding: gzip"] * 2],
)
async def test_other_codings_are_not_read(cdn: ScriptedUpstream, lines: list[bytes]) -> None:
    cdn.answer = counted(gzip.compress(PICTURE), *lines)
    async with fetching(Internet(cdn)) as fetch:
        assert "coding" in (await failed(fetch)).message


@pytest.mark.parametrize("body", [gzip.compress(PICTURE)[:-9], PICTURE, gzip.compress(PICTURE) + b"x"], ids=["cut", "plain", "more"])
async def test_compression_that_is_broken_is_a_failure(cdn: ScriptedUpstream, body: bytes) -> None:
    cdn.answer = counted(body, b"Content-Encoding: gzip")
    async with fetching(Internet(cdn)) as fetch:
        assert "can't be read" in (await failed(fetch)).message


# --- what goes wrong


@pytest.mark.parametrize("status", [201, 202, 204, 206, 300, 304, 400, 401, 403, 404, 410, 429, 500, 503])
async def test_nothing_but_200_is_a_picture(cdn: ScriptedUpstream, status: int) -> None:
    body = b"" if status in (204, 304) else PICTURE
    cdn.answer = counted(body, status=b"%d X" % status)
    async with fetching(Internet(cdn)) as fetch:
        error = await failed(fetch)
    assert error.answered == status and str(status) in error.message and error.status == 502
    assert len(cdn.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"\x16\x03\x01 what is this\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhii",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(1000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2**16 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_is_none_is_not_asked_for_again(cdn: ScriptedUpstream, answer: bytes) -> None:
    async def says(call: Call) -> None:
        await call.send(answer)
        call.cut()

    cdn.script = says
    async with fetching(Internet(cdn)) as fetch:
        await failed(fetch)
    assert cdn.connections == len(cdn.requests) == 1


HEAD = b"HTTP/1.1 200 OK\r\n"
CUT = HEAD + b"Content-Length: 1000\r\n\r\nhalf"


@pytest.mark.parametrize(
    "answer",
    [
        CUT,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nha",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\nhalf\r\n0\r\n\r\n",
        HEAD + b"\r\nhalf",
        HEAD + b"Connection: close\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n4\r\nhalf\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhalf",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhalf",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
async def test_half_a_picture_is_never_taken_for_a_whole(cdn: ScriptedUpstream, answer: bytes, reset: bool) -> None:
    async def cuts(call: Call) -> None:
        await call.send(answer)
        if reset:
            call.reset()
        else:
            call.cut()

    cdn.script = cuts
    async with fetching(Internet(cdn)) as fetch:
        await failed(fetch)


async def test_a_name_that_is_none_is_a_failure() -> None:
    async with fetching(Internet(gone_test=[[]])) as fetch:
        assert "no address" in (await failed(fetch, "https://unknown.test/")).message
        assert "no address" in (await failed(fetch, "https://gone.test/")).message


async def test_a_certificate_that_is_none_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    for context, word in (
        (authority.server("wrong.test"), "certificate"),
        (authority.server("cdn.test", expired=True), "expired"),
        (Authority(tmp_path).server("cdn.test"), "certificate"),
    ):
        async with ScriptedUpstream(counted(), tls=context) as server, fetching(Internet(server)) as fetch:
            assert word in (await failed(fetch)).message
            assert not server.requests


async def test_plain_http_where_tls_is_wanted_is_no_connection() -> None:
    def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(counted())
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
        async with fetching(Internet(server.sockets[0].getsockname()[1])) as fetch:
            assert "no connection" in (await failed(fetch)).message


# --- how long


async def soon() -> None:
    """Let what was begun come to where it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_name_that_is_never_found_is_given_up() -> None:
    class Mute(Internet):
        async def resolve(self, name: str, port: int) -> Any:
            self.asked.append(name)
            await asyncio.Event().wait()

    internet = Mute()
    async with fetching(internet) as fetch:
        task = await fetch.begin()
        await until(lambda: internet.asked)
        await fetch.turned(6, task)
        with pytest.raises(FetchFailed, match="in time") as caught:
            await task
        assert unspoken(caught.value).timeout


async def test_a_host_that_does_not_answer_is_given_up() -> None:
    with blackhole() as hole:
        internet = Internet(hole)
        async with fetching(internet) as fetch:
            task = await fetch.begin()
            await until(lambda: internet.asked)
            await fetch.turned(6, task)
            with pytest.raises(FetchFailed, match="in time") as caught:
                await task
            assert unspoken(caught.value).timeout


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    hello = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        hello.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        async with fetching(Internet(server.sockets[0].getsockname()[1])) as fetch:
            task = await fetch.begin()
            await hello.wait()
            await fetch.turned(6, task)
            with pytest.raises(FetchFailed, match="in time") as caught:
                await task
            assert unspoken(caught.value).timeout


class Slow:
    """A server that sends a piece each time that it is told to, until it is hung up on."""

    def __init__(self, *pieces: bytes) -> None:
        self.reached = asyncio.Event()  # it has been asked
        self.gone = asyncio.Event()
        self._told = asyncio.Semaphore(0)
        self._pieces = pieces

    async def __call__(self, call: Call) -> None:
        """The script."""
        self.reached.set()
        gone = asyncio.ensure_future(call.gone())
        try:
            for piece in self._pieces:
                told = asyncio.ensure_future(self._told.acquire())
                await asyncio.wait((told, gone), return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    told.cancel()
                    break
                await call.send(piece)
            await gone
        finally:
            gone.cancel()
            self.gone.set()
            call.cut()

    def go(self) -> None:
        """Send the next piece."""
        self._told.release()


async def test_an_answer_that_does_not_begin_is_given_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")
    async with fetching(Internet(cdn)) as fetch:
        task = await fetch.begin()
        await slow.reached.wait()
        slow.go()  # a line now and then is no answer
        fetch.clock.turn(20)
        await soon()
        assert not task.done()
        slow.go()
        await fetch.turned(16, task)
        with pytest.raises(FetchFailed, match="no answer in time") as caught:
            await task
        assert unspoken(caught.value).timeout
    await slow.gone.wait()


START = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_an_answer_that_stands_still_is_given_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START, chunk(b"a"))
    slow.go()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open(URL) as fetched:
            fetch.clock.turn(60)  # our own pause is not its
            slow.go()
            assert await anext(fetched) == b"a"
            reading = asyncio.create_task(anext(fetched))
            await soon()
            fetch.clock.turn(14)
            await soon()
            assert not reading.done()
            fetch.clock.turn(2)
            with pytest.raises(FetchFailed, match="too slowly") as caught:
                await reading
            assert unspoken(caught.value).timeout
            await slow.gone.wait()  # it is hung up on at once, not only when the block is left


async def test_an_answer_in_drops_is_given_up_in_the_end(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START, *[chunk(b"a")] * 99)
    slow.go()
    drops = 0
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            with pytest.raises(FetchFailed, match="too slowly"):
                while True:
                    fetch.clock.turn(10)
                    slow.go()
                    drops += len(await anext(fetched))
    assert 10 <= drops <= 12


async def test_redirects_and_the_picture_share_one_time(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(redirected("/b"))
    async with fetching(Internet(cdn)) as fetch:
        task = await fetch.begin()
        for asked in (1, 2, 3, 4):
            await until(lambda count=asked: len(cdn.requests) == count)
            if asked < 4:
                fetch.clock.turn(33)
                slow.go()
        await fetch.turned(22, task)  # 121 in all, and only 22 since the last question
        with pytest.raises(FetchFailed, match="no answer in time"):
            await task


# --- leaving


@pytest.mark.parametrize("where", ["before its head", "within its body"])
async def test_who_is_cancelled_hangs_up(cdn: ScriptedUpstream, where: str) -> None:
    cdn.script = slow = Slow(START + chunk(b"a"))
    async with fetching(Internet(cdn)) as fetch:
        if where == "within its body":
            slow.go()
            begun = asyncio.Event()

            async def reads() -> None:
                async with fetch.open() as fetched:
                    async for _ in fetched:
                        begun.set()

            task = asyncio.create_task(reads())
            await begun.wait()
        else:
            task = asyncio.create_task(fetch.read())
            await slow.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await slow.gone.wait()


async def test_who_is_cancelled_while_a_name_is_looked_up_leaves_nothing() -> None:
    class Mute(Internet):
        async def resolve(self, name: str, port: int) -> Any:
            self.asked.append(name)
            await asyncio.Event().wait()

    internet = Mute()
    async with fetching(internet, gate=Gate(1, 0)) as fetch:
        for _ in range(3):
            internet.asked.clear()
            task = await fetch.begin()
            await until(lambda: internet.asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_who_leaves_early_hangs_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START + chunk(b"a"))
    slow.go()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            assert await anext(fetched) == b"a"
        await slow.gone.wait()
        with pytest.raises(FetchFailed, match="left already"):
            await anext(fetched)


async def test_leaving_waits_for_nobodys_farewell(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START + chunk(b"a"))
    slow.go()
    before = sockets()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            assert await anext(fetched) == b"a"
            assert len(sockets() - before) == 2  # both ends
        await asyncio.sleep(0)  # the loop closes in its next round what it hangs up on
        assert len(sockets() - before) == 1


def sockets() -> set[str]:
    """The sockets that this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {one for one in found if one.startswith("socket:")}


async def test_the_end_of_a_generation_hangs_up(cdn: ScriptedUpstream) -> None:
    cdn.script = slow = Slow(START)
    slow.go()
    async with fetching(Internet(cdn)) as fetch:
        async with fetch.open() as fetched:
            reading = asyncio.create_task(anext(fetched))
            await soon()
            await fetch.fetcher.aclose()
            with pytest.raises(FetchFailed):
                await reading
        await slow.gone.wait()


# --- how many


async def test_so_many_are_fetched_at_once_and_so_many_wait(cdn: ScriptedUpstream) -> None:
    async with fetching(Internet(cdn), gate=Gate(1, 1)) as fetch:
        async with fetch.open() as fetched:
            second = await fetch.begin()
            await soon()
            assert "too many" in (await failed(fetch)).message
            assert cdn.connections == 1
            assert b"".join([piece async for piece in fetched]) == PICTURE
        assert await second == PICTURE


async def test_who_waits_for_too_long_is_given_up(cdn: ScriptedUpstream) -> None:
    async with fetching(Internet(cdn), gate=Gate(1, 1)) as fetch:
        async with fetch.open():
            second = await fetch.begin()
            await soon()
            await fetch.turned(121, second)
            with pytest.raises(FetchFailed, match="for too long"):
                await second
        assert await fetch.read() == PICTURE
