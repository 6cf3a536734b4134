"""Paths over the socket: what two readers could read differently is refused, the rest arrives byte for byte."""

from __future__ import annotations

import pytest

from proxy.testkit import RawClient, serve

from .strict import StrictUpstream, speak, statuses
from .telling import config

AFTER = b"GET /v1/after HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"

REFUSED = {
    "dot segments": b"/v1/../admin",
    "dot segments behind": b"/v1/x/..",
    "one dot": b"/v1/./x",
    "a dot at the end": b"/v1/x/.",
    "escaped dots": b"/v1/%2e%2e/admin",
    "escaped dots in capitals": b"/v1/%2E%2E/admin",
    "half escaped dots": b"/v1/.%2e/admin",
    "dots escaped twice": b"/v1/%252e%252e/admin",
    "dots behind a parameter": b"/v1/..;/admin",
    "dots behind an escaped slash": b"/v1/x%2f..%2fadmin",
    "parameter": b"/v1/images;x=1/generations",
    "backslash": b"/v1/..\\admin",
    "a lone backslash": b"/v1\\x",
    "escaped backslash with dots": b"/v1/..%5cadmin",
    "empty segment": b"/v1//x",
    "empty segment in front": b"//v1/x",
    "another host in front": b"//evil.com/v1/x",
    "fragment": b"/v1/x#y",
    "fragment in the query": b"/v1/x?y#z",
    "delete": b"/v1/x\x7f",
    "absolute": b"http://evil.com/v1/x",
    "absolute to us": b"http://me/v1/x",
    "absolute by TLS": b"https://evil.com/v1/x",
    "absolute with a user": b"http://me@evil.com/v1/x",
    "absolute file": b"file:///v1/x",
    "authority": b"evil.com:443",
    "asterisk": b"*",
    "no slash": b"v1/x",
    "at": b"@evil.com/v1/x",
    "question mark alone": b"?x=/v1/x",
}
ELSEWHERE = {
    "another version": b"/v2/x",
    "the root": b"/",
    "capitals": b"/V1/x",
    "prefix without a slash": b"/v1x",
    "escaped prefix": b"/%761/x",
    "escaped slash behind the prefix": b"/v1%2fx",
    "admin": b"/admin",
    "metrics": b"/metrics",
    "our own names": b"/livez/x",
}
SAME = {
    "escapes in an id": b"/v1/responses/resp_a%2Fb%2520c",
    "colon": b"/v1/models/ft:gpt-4o:acme::abc",
    "escaped colon": b"/v1/models/ft%3Agpt",
    "small escapes": b"/v1/x/%c3%a9",
    "brackets": b"/v1/x?include[]=a&include%5B%5D=b&o%5Bk%5D=v+w",
    "dots in the query": b"/v1/x?y=/../../etc&z=%2e%2e%2f",
    "a URL in the query": b"/v1/x?u=http://evil.com/&u=//evil.com;x\\y",
    "empty query": b"/v1/x?",
    "question marks": b"/v1/x??a=?b",
    "trailing slash": b"/v1/x/",
    "three dots": b"/v1/.../x",
    "dots in a name": b"/v1/a..b/.well-known",
    "tilde and friends": b"/v1/~x/!$&'()*+,=:@",
    "plus": b"/v1/a+b%20c",
}


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
@pytest.mark.parametrize("target", REFUSED.values(), ids=REFUSED)
async def test_is_refused_and_the_connection_ends(target: bytes, method: bytes) -> None:
    async with StrictUpstream() as upstream, StrictUpstream() as other, serve(config(upstream)) as served:
        place = other.url.removeprefix("http://").removesuffix("/v1").encode()
        line = b"%b %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (method, target.replace(b"evil.com", place), place)
        said = await speak(served.port, line + AFTER)
        assert len(statuses(said)) == 1 and statuses(said)[0] in (400, 404, 405)
        assert not upstream.raw and not other.raw
        assert statuses(await speak(served.port, AFTER)) == [200]


@pytest.mark.parametrize("target", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_is_under_no_route(target: bytes) -> None:
    async with StrictUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(b"GET %b HTTP/1.1\r\nHost: me\r\n\r\n" % target)
        assert heard.status in (400, 404) and not upstream.raw


@pytest.mark.parametrize("target", SAME.values(), ids=SAME)
async def test_arrives_as_it_was_sent(target: bytes) -> None:
    async with StrictUpstream() as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        assert (await client.ask(b"GET %b HTTP/1.1\r\nHost: me\r\n\r\n" % target)).status == 200
        assert [heard.target for heard in upstream.requests] == [target]


GUARDED = """
[[routes]]
match = "* /v1/*"
chain = []
"""


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/Images/generations",
        b"/v1/IMAGES/generations",
        b"/v1/images/generations/",
        b"/v1/images/%67enerations",
        b"/v1/image%73/generations",
        b"/v1/images%2fgenerations",
        b"/v1/images%252fgenerations",
        b"/v1/images/generations%2f",
        b"/v1/images/generations;x",
        b"/v1//images/generations",
        b"/v1/x/../images/generations",
        b"/v1/images/./generations",
        b"/v1/images\\generations",
        b"/v1/images/generations%00",
        b"/v1/images/generations%20",
        b"/v1/images/generations%3b",
        b"/v1/images/generations#",
    ],
    ids=bytes.decode,
)
async def test_no_spelling_of_a_guarded_path_slips_into_the_route_behind_it(target: bytes) -> None:
    async with StrictUpstream() as guarded, StrictUpstream() as open_:
        text = config(guarded).replace("* /v1/*", "* /v1/images/generations").replace("chain = []", 'upstream = "only"')
        text = text.replace("[[routes]]", f'[upstreams.open]\nbase_url = "{open_.url}"\n[[routes]]\nchain = []\n')
        async with serve(text + GUARDED + 'upstream = "open"\n') as served:
            said = await speak(served.port, b"POST %b HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n" % target)
            assert statuses(said) == [400] and not guarded.raw and not open_.raw
            right = b"POST /v1/images/generations HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
            assert statuses(await speak(served.port, right)) == [200] and len(guarded.requests) == 1


@pytest.mark.parametrize(("base", "target", "heard"), [
    ("", b"/v1/x?a=1", b"/v1/x?a=1"),
    ("/", b"/v1/x", b"/v1/x"),
    ("?api-version=1", b"/v1/x?a=1", b"/v1/x?a=1&api-version=1"),
    ("?api-version=1", b"/v1/x?api-version=2", b"/v1/x?api-version=2&api-version=1"),
])  # fmt: skip
async def test_the_target_is_put_behind_the_base_url(base: str, target: bytes, heard: bytes) -> None:
    async with StrictUpstream() as upstream, serve(config(upstream.url + base)) as served:
        async with RawClient(served.port) as client:
            assert (await client.ask(b"GET %b HTTP/1.1\r\nHost: me\r\n\r\n" % target)).status == 200
        assert upstream.requests[0].target == heard
