"""What is said of files that are wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.core.config import (
    Config,
    Listen,
)

from .configs import (
    HERE,
    KEY,
    ONE,
)

# --- Complaints


def test_says_every_complaint_at_once_each_with_its_address(said: Callable[..., list[str]]) -> None:
    complaints = said(
        """
        [server]
        lisen = "127.0.0.1:80"
        listen = 8080
        [upstream.x]
        [upstreams.openai]
        base_url = "api.openai.com"
        api_key = "env:NOT_SET"
        [upstreams.azure]
        api_key = "hunter2-the-real-key"
        [plugins.mark]
        use = "no.such:Thing"
        [[routes]]
        match = "/v1/*"
        [[routes]]
        match = "* /v1/*"
        chain = ["kyes", "quota"]
        upstream = "azur"
        [log]
        format = "xml"
        """
    )
    assert complaints == [
        "upstream: no such setting; did you mean 'upstreams'?",
        "server.lisen: no such setting; did you mean 'listen'?",
        f"server.listen: expected {Listen.wanted}, found the number 8080",
        "upstreams.openai.api_key: the environment variable NOT_SET is not set",
        'upstreams.openai: base_url must be a whole URL such as "https://api.openai.com/v1"',
        "upstreams.azure.base_url: missing; it must be given: text",
        'upstreams.azure.api_key: a secret is written as "env:NAME", "file:/path" or "secret:NAME", never as itself',
        'log.format: expected "json" or "text", found the text "xml"',
        'routes[0]: \'/v1/*\' is not of the form "* /v1/*" or "GET,POST /v1/files/*"',
        "plugins.mark.use: can't import no.such: ModuleNotFoundError: No module named 'no'",
        "routes[1].chain[0]: no such plugin 'kyes'; there are mark",
        "routes[1].chain[1]: 'quota' is not part of this version; take it out of the chain",
        "routes[1].upstream: no such upstream 'azur'; did you mean 'azure'?",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "upstreams: there is none; add one, such as [upstreams.openai]"),
        ("[upstreams]", "upstreams: there is none"),
        ("upstreams = 3", "upstreams: expected a table"),
        ("routes = 3\n" + ONE, "routes: expected a list"),
        ("server = 3\n" + ONE, "server: expected a table"),
        (
            ONE + '[[routes]]\nmach = "* /v1/*"\nmatch = "* /v1/*"',
            "routes[0].mach: no such setting; did you mean 'match'?",
        ),
        (
            ONE + '[[routes]]\nmatch = "* /openai/*"',
            "routes[0]: the pattern '/openai/*' does not begin with the prefix",
        ),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nprefix = "/v1/"', 'routes[0]: the prefix "/v1/" must be like'),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\ndeadline = "0s"', "routes[0]: deadline must be longer than nothing"),
        (
            ONE + '[[routes]]\nmatch = "* /v1/*"\ndeadline = 600',
            'routes[0].deadline: a duration needs its unit, as in "600s"',
        ),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nmax_body = "0B"', "routes[0]: max_body must be at least 1"),
        (
            ONE + '[[routes]]\nmatch = "* /v1/*"\nchain = ["tasks"]',
            "routes[0].chain[0]: 'tasks' is not part of this version",
        ),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nchain = ["x"]', "routes[0].chain[0]: no such plugin 'x'"),
        (ONE + '[[routes]]\nmatch = "* /v1/*"\nchain = ["a:B"]', "routes[0].chain[0]: no such plugin 'a:B'"),
        (ONE + '[server]\nlisten = ":8080"', 'server.listen: ":8080" names no host; write "127.0.0.1:8080"'),
        (ONE + '[server]\nlisten = "::1:8080"', 'server.listen: an IPv6 address stands in brackets: "[::1]:8080"'),
        (ONE + '[server]\nlisten = "[::zz]:80"', 'server.listen: "[::zz]" is not an IPv6 address'),
        (ONE + '[server]\nlisten = "localhost:99999"', 'server.listen: "localhost:99999" is not an address'),
        (ONE + '[server]\nlisten = "unix:"', "server.listen: the path of the socket is missing"),
        (ONE + "[server]\nworkers = 0", "server: workers must be at least 1"),
        (
            ONE + "[server]\nworkers = 129",
            "server: workers must be at most 128: each is a process, and one per core is plenty",
        ),
        (ONE + '[server]\ntrusted_proxies = ["10.0.0.1/8"]', "server: trusted_proxies: 10.0.0.1/8 has host bits set"),
        (ONE + '[server]\npublic_url = "img.example.com"', "server: public_url must be a whole URL"),
        (ONE + '[store]\nurl = "postgres://x"', 'store: url must be "sqlite:PATH"'),
        (ONE + '[store]\ntimezone = "Mars/Olympus"', 'store: there is no timezone "Mars/Olympus"'),
        (
            ONE + '[admin]\ntoken = "env:AZURE_KEY"\nlisen = "same"',
            "admin.lisen: no such setting; did you mean 'listen'?",
        ),
        (ONE + '[images]\nurl = "/srv/images"', 'images: url must be "file:PATH"'),
        (ONE + '[images]\nurl = "s3://bucket"', "images: url names no region; write s3://BUCKET?region="),
        (ONE + '[images]\nurl = "s3://b?region=r"', "images: url names no bucket (3 to 63 small letters"),
        (ONE + '[images]\nurl = "s3://bucket/../x?region=r"', "images: the prefix in url is made of letters"),
        (ONE + '[images]\nurl = "s3://bucket/%2e?region=r"', "images: the prefix in url is made of letters"),
        (ONE + '[images]\nurl = "s3://u:p@bucket?region=r"', "images: url must not hold a user or a password"),
        (ONE + '[images]\nurl = "s3://bucket?regoin=r"', "images: url holds a key behind '?' that there is not; did"),
        (ONE + '[images]\nurl = "s3://bucket?secret=x"', "that there is not; there are region, endpoint, style"),
        (ONE + '[images]\nurl = "s3://bucket?region=r&region=r"', "images: url gives region twice"),
        (ONE + '[images]\nurl = "s3://bucket?region="', "images: url gives region without a value"),
        (ONE + '[images]\nurl = "s3://bucket?region=a/b"', "images: the region in url is made of small letters"),
        (ONE + '[images]\nurl = "s3://bucket?region=r&style=x"', "images: the style in url is path or virtual"),
        (ONE + '[images]\nurl = "s3://bucket?endpoint=s3.example.com"', "images: the endpoint in url must be a whole"),
        (ONE + '[images]\nurl = "s3://bucket?endpoint=http://h:x"', "images: the endpoint in url must be a whole URL"),
        (ONE + '[images]\nurl = "s3://bucket?endpoint=http://u:p@h"', "images: the endpoint in url must not hold a"),
        (ONE + '[images]\nurl = "s3://bucket?region=r#x"', "images: url holds a blank, a backslash, a '#' or"),
        (ONE + '[images]\nurl = "s3://bucket?region=r"\naccel = "/x/"', "images: accel is for a folder: nginx can't"),
        (
            ONE + '[images]\nurl = "s3://bucket?region=r"\naccess_key = "env:OPENAI_API_KEY"',
            "images: access_key and secret_key are given together, or neither",
        ),
        (
            ONE + '[images]\nurl = "s3://bucket?region=r"\naccess_key = "AKIA1"',
            "images.access_key: a secret is written as",
        ),
        (
            ONE + '[images]\nurl = "s3://bucket?region=r"\ntimeout = "10m"',
            "images: timeout must be longer than nothing",
        ),
        (ONE + '[images]\ntimeout = "30s"', "images: timeout is for pictures in S3; these lie in a folder"),
        (ONE + '[images]\nspool = "x"', "images: spool is for pictures in S3; these lie in a folder"),
        (ONE + '[images]\nttl = "0s"', "images: ttl must be longer than nothing"),
        (ONE + '[images]\nttl = "for ever"', "images.ttl: "),
        (ONE + '[images]\nlink_ttl = "0s"', "images: link_ttl must be longer than nothing"),
        (ONE + '[images]\nmax_bytes = "0B"', "images: max_bytes must be at least 1"),
        (ONE + '[images]\naccel = "internal/"', "images: accel must be the path of an internal location"),
        (ONE + '[images]\naccel = "/../"\n', "images: accel must be the path of an internal location"),
        (ONE + '[keys.a]\nsecret = "env:AZURE_KEY"\ngroup = "g"', "keys.a.group: no such group 'g'; there are none"),
        (ONE + '[keys.a]\nsecret = "env:AZURE_KEY"\nendpoints = ["files"]', "keys.a.endpoints[0]: expected"),
        (ONE + '[keys.open]\nsecret = "env:AZURE_KEY"', "keys.open: this is what callers are called who need no key"),
        (ONE + '[keys."a b"]\nsecret = "env:AZURE_KEY"', 'keys."a b": a name is made of letters, digits'),
        (ONE + 'auth = "none"', 'upstreams.openai: api_key is never sent with auth = "none"'),
        (ONE + 'auth = "basic"', 'upstreams.openai.auth: expected "bearer" or "api-key" or "none"'),
        (ONE + 'idle_timeout = "0s"', "upstreams.openai: idle_timeout must be longer than nothing"),
        (ONE + 'ca_file = "no-such.pem"', "no-such.pem can't be read: No such file or directory"),
        (ONE + 'ca_file = "framegate.toml"', "framegate.toml holds no certificate"),
        (ONE + "max_connections = -1", "upstreams.openai: max_connections must be at least 1, or 0 for no limit"),
        (
            ONE + 'proxy = "proxy.example"',
            'upstreams.openai: proxy can\'t be used: it is no URL; write "env", "none", or',
        ),
        (ONE + 'proxy = "https://proxy.example"', "upstreams.openai: proxy can't be used: only http:// proxies are"),
        (
            ONE + f'proxy = "http://u:{KEY}@h"',
            "upstreams.openai: proxy holds a user or a password; write",
        ),
        (ONE + 'proxy = "env:NO_SUCH"', "upstreams.openai.proxy: the environment variable NO_SUCH is not set"),
        (ONE + 'headers = { Host = "x" }', "upstreams.openai: headers: 'Host' is the connection's own"),
        (ONE + 'headers = { "a b" = "x" }', "upstreams.openai: headers: 'a b' is not the name of a header"),
        (ONE + 'headers = { X = "a\\r\\nY: b" }', "upstreams.openai: headers: 'X' holds a line break"),
        (
            ONE + f'headers = {{ Authorization = "Basic {KEY}" }}',
            "upstreams.openai: headers: 'Authorization' looks like a sec",
        ),
        (ONE + f'headers = {{ X-Api-Key = "{KEY}" }}', "upstreams.openai: headers: 'X-Api-Key' looks like a secret"),
        (ONE + f'headers = {{ X-Beta = "sk-{KEY}" }}', "upstreams.openai: headers: 'X-Beta' looks like a secret"),
        (
            ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\ntext = "x"',
            "plugins.mark.marks: missing; it must be given: a list",
        ),
        (ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\ntext = ""\nmarks = []', "plugins.mark: text must not be empty"),
        (
            ONE + f'[plugins.mark]\nuse = "{HERE}:Stamp"\ntxt = ""\nmarks = []\ntext = "x"',
            "plugins.mark.txt: no such setting",
        ),
        (ONE + f'[plugins.bad]\nuse = "{HERE}:Broken"', "plugins.bad: Broken can't be made: KeyError: 'oh'"),
        (ONE + "[plugins.bad]\nuse = 3", "plugins.bad.use: expected text, found the number 3"),
        (ONE + "[plugins.bad]\nuse = ''", "plugins.bad.use: no such plugin ''"),
        (ONE + "[plugins.bad]", "plugins.bad: no such plugin 'bad'"),
        (ONE + f'[plugins.c]\nuse = "{HERE}:Keys"\non_crash = "skip"', "plugins.c.on_crash: 'c' must not be skipped"),
        (ONE + f'[plugins.c]\nuse = "{HERE}:Failover"\nto = ["openia"]', "plugins.c.to[0]: no such upstream 'openia'"),
    ],
)
def test_says_what_is_wrong_and_what_would_be_right(said: Callable[..., list[str]], text: str, complaint: str) -> None:
    [line] = said(text)
    assert complaint in line


@pytest.mark.parametrize(
    "url",
    [
        "api.openai.com/v1",
        "ftp://api.openai.com",
        "https://",
        "https:///v1",
        f"https://me:{KEY}@api.openai.com/v1",
        f"https://{KEY}@api.openai.com/v1",
        f"https://api.openai.com/v1#{KEY}",
        "https://api.openai.com/v1#",
        "https://api.openai.com:port/v1",
        "https://[::1/v1",
        "https://api.openai.com/v 1",
        "https://api.openai.com\\\\@evil.example/v1",
        "https://api.openai.com\\n/v1",
    ],
)
def test_refuses_a_base_url_that_is_not_plain_without_repeating_it(said: Callable[..., list[str]], url: str) -> None:
    [line] = said(f'[upstreams.openai]\nbase_url = "{url}"\n')
    assert line.startswith("upstreams.openai: base_url")
    assert "hunter2" not in line


def test_a_base_url_may_hold_a_query(read: Callable[..., Config]) -> None:
    url = "https://acme.example/openai/v1?api-version=2026-01-01"
    assert read(f'[upstreams.azure]\nbase_url = "{url}"\n').upstreams["azure"].base_url == url
