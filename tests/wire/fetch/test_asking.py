"""Fetching over real sockets, in an internet where one address counts as public: who is asked, and who never is."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohappyeyeballs
import pytest

from proxy.testkit import Call, RawClient, ScriptedUpstream, serve
from proxy.testkit.upstream import Script

from ...plugins_for_tests import told
from ..authority import Authority
from ..between import Between
from ..fetching import (
    PICTURE,
    PUBLIC,
    SECRET,
    URL,
    Internet,
    counted,
    failed,
    fetching,
    origin,
    redirected,
    refused,
)
from ..telling import GET, chunk, config
from ..test_place import NOT_FOR_STRANGERS, UNREADABLE
from ..test_public import CLOSED

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
