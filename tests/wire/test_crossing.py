"""What crosses where: all on a transparent route, nobody's secrets or account where a credential is translated."""

from __future__ import annotations

import pytest

from proxy.testkit import RawClient, serve

from .strict import Heard, StrictUpstream
from .telling import config

KEY = "sk-upstream-0123456789abcdef"
KEYS = {"UPSTREAM_KEY": KEY}
OURS = 'api_key = "env:UPSTREAM_KEY"'
BODY = b'{"model":"m"}'

# Never across, whoever's credential it is: the connection's own (RFC 9110 §7.6.1), and what means something to us.
HOP_BY_HOP = [
    (b"Keep-Alive", b"timeout=5"),
    (b"Proxy-Connection", b"keep-alive"),
    (b"Proxy-Authenticate", b"Basic"),
    (b"Proxy-Authorization", b"Basic evil"),
    (b"TE", b"trailers"),
    (b"Trailer", b"X-Sum"),
    (b"Upgrade", b"h3"),
]
LOOK_ALIKES = [
    (b"X_Forwarded_For", b"evil"),
    (b"x_forwarded-host", b"evil"),
    (b"Content_Length", b"500"),
    (b"Content_Type", b"evil/evil"),
    (b"Transfer_Encoding", b"chunked"),
    (b"X_Api_Key", b"evil"),
    (b"Api_Key", b"evil"),
    (b"Openai_Organization", b"evil"),
    (b"X_Framegate_Id", b"evil"),
    (b"X_Real_Ip", b"evil"),
    (b"CF_Connecting_IP", b"evil"),
    (b"X_Internal_User", b"evil"),
]
# The caller's own: through, where their credential goes through; gone, where ours takes its place.
CALLERS = [
    (b"Authorization", b"Bearer caller"),
    (b"x-api-key", b"caller"),
    (b"api-key", b"caller"),
    (b"Cookie", b"session=caller"),
    (b"Forwarded", b"for=caller"),
    (b"X-Forwarded-For", b"caller"),
    (b"X-Forwarded-Host", b"caller"),
    (b"X-Forwarded-Proto", b"caller"),
    (b"x-forwarded-anything-new", b"caller"),
    (b"X-Real-IP", b"caller"),
    (b"True-Client-IP", b"caller"),
    (b"CF-Connecting-IP", b"caller"),
    (b"CF-Ray", b"caller"),
    (b"Via", b"1.1 caller"),
    (b"X-Original-URL", b"/caller"),
    (b"X-Rewrite-URL", b"/caller"),
    (b"X-Admin-Token", b"caller"),
    (b"X-Internal-User", b"caller"),
    (b"OpenAI-Organization", b"caller"),
    (b"openai-project", b"caller"),
    (b"X-Framegate-Id", b"caller"),
    (b"x-framegate-upstream", b"caller"),
]
# Everybody's: SDKs make up new ones.
HARMLESS = [
    (b"User-Agent", b"OpenAI/Python 3.52"),
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"gzip, deflate"),
    (b"accept-language", b"*"),
    (b"x-stainless-lang", b"python"),
    (b"X-Stainless-Retry-Count", b"1"),
    (b"OpenAI-Beta", b"assistants=v2"),
    (b"Idempotency-Key", b"abc"),
    (b"sec-fetch-mode", b"cors"),
    (b"Content-Type", b"application/json"),
    (b"X-Brand-New", b"a"),
    (b"x-brand-new", b"b"),
    (b"with_underscore", b"c"),
    (b"X-Empty", b""),
    (b"Proxied", b"not Proxy-"),
]
# The upstream's account: likewise.
ACCOUNT = [
    (b"Set-Cookie", b"__cf_bm=account; path=/"),
    (b"set-cookie", b"second=account"),
    (b"Alt-Svc", b'h3=":443"'),
    (b"openai-organization", b"account"),
    (b"OpenAI-Project", b"account"),
    (b"x-ratelimit-limit-requests", b"100"),
    (b"X-RateLimit-Reset-Tokens", b"6m0s"),
]
FROM_UPSTREAM = [
    (b"x-request-id", b"req_1"),
    (b"openai-processing-ms", b"12"),
    (b"openai-version", b"2020-10-01"),
    (b"Retry-After", b"7"),
    (b"x-should-retry", b"false"),
    (b"Server", b"upstream"),
    (b"Date", b"Sat, 21 Nov 2026 00:00:00 GMT"),
    (b"Content-Type", b"application/json"),
    (b"X-Brand-New", b"1"),
    (b"X-Empty", b""),
]


def asked(pairs: list[tuple[bytes, bytes]], connection: bytes = b"close") -> bytes:
    head = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    line = b"POST /v1/x HTTP/1.1\r\nHost: me\r\nConnection: %b\r\n" % connection
    return line + head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def answering(pairs: list[tuple[bytes, bytes]]) -> StrictUpstream:
    head = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    return StrictUpstream(lambda heard: b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 2\r\n\r\n{}")


async def crossed(pairs: list[tuple[bytes, bytes]], upstreams: str = "", connection: bytes = b"close") -> Heard:
    """The request as upstream heard it."""
    async with StrictUpstream() as upstream, serve(config(upstream, upstreams=upstreams), environ=KEYS) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(asked(pairs, connection))
            assert heard.status == 200 and KEY.encode() not in heard.body
            assert not any(KEY.encode() in value for _, value in heard.headers)
        assert KEY.encode() not in served.raw_log and not upstream.dirt
        return upstream.requests[0]


def without(heard: Heard, *names: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in heard.headers if pair[0].lower() not in (b"host", b"content-length", *names)]


# --- Inward


async def test_a_transparent_route_hands_on_all_but_the_connections_own() -> None:
    heard = await crossed(CALLERS + HOP_BY_HOP + LOOK_ALIKES + HARMLESS)
    assert without(heard) == CALLERS + HARMLESS and heard.body == BODY


@pytest.mark.parametrize(
    ("upstreams", "added"),
    [
        (OURS, (b"Authorization", b"Bearer " + KEY.encode())),
        (OURS + '\nauth = "api-key"', (b"api-key", KEY.encode())),
        ('headers = { "X-Token" = "env:UPSTREAM_KEY" }', (b"X-Token", KEY.encode())),
    ],
    ids=["bearer", "api-key", "a secret header"],
)
async def test_where_a_credential_is_translated_the_callers_own_stays_here(
    upstreams: str, added: tuple[bytes, bytes]
) -> None:
    heard = await crossed(CALLERS + HOP_BY_HOP + LOOK_ALIKES + HARMLESS, upstreams)
    assert without(heard, b"cdn-loop") == [*HARMLESS, added] and heard.body == BODY
    assert [value.startswith(b"framegate-") for value in heard.all(b"cdn-loop")] in ([], [True])  # our own mark
    assert b"caller" not in heard.raw and b"evil" not in heard.raw


@pytest.mark.parametrize("pair", CALLERS, ids=[name.decode() for name, _ in CALLERS])
@pytest.mark.parametrize("spelling", [bytes.upper, bytes.lower, bytes.swapcase], ids=["upper", "lower", "swapped"])
async def test_no_spelling_of_a_callers_header_gets_through(pair: tuple[bytes, bytes], spelling: object) -> None:
    name = spelling(pair[0])  # type: ignore[operator]
    twice = [(name, pair[1])] if name.lower() == b"authorization" else [(name, pair[1]), (pair[0], pair[1])]
    heard = await crossed(twice, OURS)
    assert without(heard, b"cdn-loop") == [(b"Authorization", b"Bearer " + KEY.encode())]


NAMING = [
    b"Authorization",
    b"close, authorization",
    b"Content-Type, Host, Content-Length",
    b"keep-alive, CONTENT-TYPE,host ,Content-Length,Authorization, api-key",
    b"X-Framegate-Id",
    b"Transfer-Encoding",
    b", ,,Authorization,",
]


@pytest.mark.parametrize("upstreams", ["", OURS, OURS + '\nauth = "api-key"'], ids=["theirs", "ours", "ours, api-key"])
@pytest.mark.parametrize("connection", NAMING, ids=[name.decode() for name in NAMING])
async def test_connection_can_not_name_what_framing_and_auth_stand_on(connection: bytes, upstreams: str) -> None:
    pairs = [(b"Authorization", b"Bearer caller"), (b"Content-Type", b"application/json")]
    heard = await crossed(pairs, upstreams, connection)
    assert heard.body == BODY and heard.all(b"content-length") == [b"%d" % len(BODY)]
    assert heard.all(b"content-type") == [b"application/json"] and len(heard.all(b"host")) == 1
    assert not heard.all(b"connection")
    if "api-key" in upstreams.partition("\n")[2]:
        assert heard.all(b"api-key") == [KEY.encode()] and not heard.all(b"authorization")
    else:
        assert heard.all(b"authorization") == [b"Bearer " + (KEY.encode() if upstreams else b"caller")]


async def test_what_connection_names_besides_is_dropped() -> None:
    heard = await crossed([(b"X-Hop", b"1"), (b"x-hop", b"2"), (b"X-End", b"3")], connection=b"X-HOP, close")
    assert without(heard) == [(b"X-End", b"3")]


async def test_host_is_the_upstreams_whatever_the_caller_writes() -> None:
    async with StrictUpstream() as upstream, StrictUpstream() as other, serve(config(upstream)) as served:
        place = other.url.removeprefix("http://").removesuffix("/v1").encode()
        pairs = [b"X-Forwarded-Host: " + place, b"Forwarded: host=" + place, b"X-Original-URL: " + other.url.encode()]
        for host in (place, b"evil.com", b"me@" + place, b""):
            async with RawClient(served.port) as client:
                request = b"\r\n".join((b"GET /v1/x HTTP/1.1", b"Host: " + host, *pairs)) + b"\r\n\r\n"
                assert (await client.ask(request)).status in (200, 400)
        assert not other.raw and upstream.requests
        for heard in upstream.requests:
            assert heard.all(b"host") == [upstream.url.removeprefix("http://").removesuffix("/v1").encode()]


@pytest.mark.parametrize("name", ["api_base", "base_url", "url", "custom_host", "api_key", "organization", "headers"])
async def test_a_destination_in_the_body_is_only_text(name: str) -> None:
    async with StrictUpstream() as upstream, StrictUpstream() as other:
        async with serve(config(upstream, upstreams=OURS), environ=KEYS) as served, RawClient(served.port) as client:
            body = b'{"model":"m","%b":"%b"}' % (name.encode(), other.url.encode())
            head = b"POST /v1/chat/completions?%b=%b HTTP/1.1\r\nHost: me\r\n" % (name.encode(), other.url.encode())
            assert (await client.ask(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)).status == 200
        assert not other.raw and upstream.requests[0].body == body


@pytest.mark.parametrize(
    "text", [r"a\r\nX-Evil: 1", r"a\u000d\u000aX-Evil: 1\u000d\u000a\u000d\u000a", "a\r\nX-Evil: 1"]
)
async def test_a_line_end_in_the_model_or_the_user_stays_in_the_json(text: str) -> None:
    body = b'{"model":"%b","user":"%b"}' % (text.encode(), text.encode())
    async with StrictUpstream() as upstream, serve(config(upstream, upstreams=OURS), environ=KEYS) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(
                b"POST /v1/x HTTP/1.1\r\nHost: me\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        assert heard.status == 200 and heard.get(b"x-evil") is None
        assert upstream.requests[0].body == body and not upstream.requests[0].all(b"x-evil")


# --- Outward


async def test_a_transparent_route_hands_back_all_but_the_connections_own() -> None:
    async with answering(HOP_BY_HOP + ACCOUNT + FROM_UPSTREAM) as upstream, serve(config(upstream)) as served:
        async with RawClient(served.port) as client:
            heard = await client.ask(asked([], b"keep-alive"))
        assert heard.headers == [*ACCOUNT, *FROM_UPSTREAM, (b"Content-Length", b"2")]


@pytest.mark.parametrize("auth", ["bearer", "api-key"])
async def test_where_a_credential_is_translated_the_account_stays_with_us(auth: str) -> None:
    text = f'{OURS}\nauth = "{auth}"'
    async with answering(HOP_BY_HOP + ACCOUNT + FROM_UPSTREAM) as upstream:
        async with serve(config(upstream, upstreams=text), environ=KEYS) as served:
            async with RawClient(served.port) as client:
                heard = await client.ask(asked([(b"Cookie", b"session=caller")], b"keep-alive"))
            marks = [pair for pair in heard.headers if pair[0].startswith(b"x-framegate-")]
            assert [pair for pair in heard.headers if pair not in marks] == [*FROM_UPSTREAM, (b"Content-Length", b"2")]
            assert b"x-framegate-id" in [name for name, _ in marks]
            assert not any(b"account" in value or KEY.encode() in value for _, value in heard.headers)


async def test_connection_of_the_upstream_names_what_does_not_come_back() -> None:
    pairs = [(b"Connection", b"X-Hop, Content-Length"), (b"X-Hop", b"1"), (b"X-End", b"2")]
    async with answering(pairs) as upstream, serve(config(upstream)) as served, RawClient(served.port) as client:
        heard = await client.ask(asked([], b"keep-alive"))
        assert heard.headers == [(b"X-End", b"2"), (b"Content-Length", b"2")] and heard.body == b"{}"


# --- The key


async def test_several_keys_are_used_in_turn_and_none_is_ever_told() -> None:
    several = 'api_key = ["env:ONE", "env:TWO", "env:THREE"]'
    environ = {"ONE": "sk-one-0123456789", "TWO": "sk-two-0123456789", "THREE": "sk-three-0123456789"}
    async with StrictUpstream() as upstream, serve(config(upstream, upstreams=several), environ=environ) as served:
        said = b""
        async with RawClient(served.port) as client:
            for _ in range(7):
                heard = await client.ask(asked([], b"keep-alive"))
                said += heard.body + b"".join(name + value for name, value in heard.headers)
        told = [one.all(b"authorization")[0].removeprefix(b"Bearer ").decode() for one in upstream.requests]
        assert told == [*environ.values()] * 2 + [environ["ONE"]]
        assert not any(key.encode() in said + served.raw_log for key in environ.values())


@pytest.mark.parametrize("broken", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_the_key_is_in_no_error_and_in_no_line_of_the_log(broken: bytes) -> None:
    text = OURS + '\nheaders = { "X-Second" = "env:SECOND" }'
    environ = {**KEYS, "SECOND": "second-0123456789"}
    async with StrictUpstream(lambda _: broken) as upstream:
        async with serve(config(upstream, upstreams=text), environ=environ) as served, RawClient(served.port) as client:
            said = await client.ask(asked([(b"Authorization", b"Bearer caller-secret")], b"keep-alive"))
            await client.send(asked([(b"X-Bad", b"a\nb"), (b"Authorization", b"Bearer caller-secret")]))
            rest = await client.ended()
            log = served.raw_log
        assert said.status == 502 and upstream.requests[0].all(b"x-second") == [b"second-0123456789"]
        for secret in (KEY.encode(), b"second-0123456789", b"caller-secret"):
            assert secret not in said.body + rest + log


async def test_an_upstream_that_can_not_be_reached_is_not_named_to_the_client() -> None:
    async with StrictUpstream() as upstream:
        url = upstream.url
    async with serve(config(url, upstreams=OURS), environ=KEYS) as served, RawClient(served.port) as client:
        heard = await client.ask(asked([], b"keep-alive"))
        assert heard.status == 502 and b'"code":"provider_submit_failed"' in heard.body
        assert url.rpartition(":")[2].partition("/")[0].encode() not in heard.body and b"127.0.0.1" not in heard.body
