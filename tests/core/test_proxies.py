from __future__ import annotations

import pytest

from proxy.core.proxies import Proxy, find
from proxy.core.settings import Plain
from proxy.model.values import Secret

ENV = Plain("env")
FAR = "https://api.example.com/v1"


def found(url: str, **environ: str) -> str | None:
    """The host of the proxy on the way to that URL."""
    proxy = find(ENV, url, environ)
    return proxy and proxy.host


@pytest.mark.parametrize(
    ("url", "environ", "host"),
    [
        (FAR, {}, None),
        (FAR, {"HTTPS_PROXY": "http://a:1"}, "a"),
        (FAR, {"https_proxy": "http://a:1"}, "a"),
        (FAR, {"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "a"),
        (FAR, {"HTTP_PROXY": "http://a:1"}, None),
        ("http://api.example.com", {"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "a"),
        (FAR, {"ALL_PROXY": "http://a:1"}, "a"),
        (FAR, {"all_proxy": "http://a:1", "https_proxy": "http://b:1"}, "b"),
        (FAR, {"https_proxy": "", "HTTPS_PROXY": "http://b:1"}, None),  # taken back, as urllib has it
        (FAR, {"HTTPS_PROXY": "a.test:3128"}, "a.test"),
        (FAR, {"HTTPS_PROXY": "http://[::1]:3128/"}, "::1"),
        ("http://localhost:8080", {"ALL_PROXY": "http://a:1"}, None),
        ("http://app.localhost:8080", {"ALL_PROXY": "http://a:1"}, None),
        ("http://127.3.2.1:8080", {"ALL_PROXY": "http://a:1"}, None),
        ("http://[::1]:8080", {"ALL_PROXY": "http://a:1"}, None),
        ("http://10.0.0.1", {"ALL_PROXY": "http://a:1"}, "a"),
    ],
)
def test_the_environment_names_the_proxy(url: str, environ: dict[str, str], host: str | None) -> None:
    assert found(url, **environ) == host


@pytest.mark.parametrize(
    ("url", "names", "direct"),
    [
        (FAR, "*", True),
        (FAR, "api.example.com", True),
        (FAR, "API.Example.COM", True),
        (FAR, "example.com", True),
        (FAR, ".example.com", True),
        (FAR, "*.example.com", True),
        (FAR, "a.test, example.com", True),
        (FAR, "a.test example.com", True),
        (FAR, "example.com:443", True),
        (FAR, "example.com:8443", False),
        ("https://api.example.com:8443", "api.example.com:8443", True),
        ("http://api.example.com", "api.example.com:80", True),
        (FAR, "ample.com", False),
        (FAR, "i.example.com", False),
        (FAR, "xapi.example.com", False),
        (FAR, "com.", True),
        (FAR, "", False),
        (FAR, " , ,", False),
        (FAR, ".", False),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://10.1.2.3", "10.0.0.0/8", True),
        ("http://10.1.2.3:81", "10.0.0.0/8:80", False),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://10.1.2.3", "2.3", False),
        ("http://[2001:db8::1]", "2001:db8::/32", True),
        ("http://[2001:db8::1]", "2001:db8::1", True),
        ("http://[2001:db8::1]:81", "[2001:db8::1]:81", True),
        ("http://[2001:db8::1]:81", "[2001:db8::1]:80", False),
    ],
)
def test_no_proxy_lists_what_is_reached_directly(url: str, names: str, direct: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        environ = {"ALL_PROXY": "http://a:1", name: names}
        assert (found(url, **environ) is None) is direct


def test_what_the_config_says_goes_before_the_environment() -> None:
    environ = {"ALL_PROXY": "http://a:1", "NO_PROXY": "*"}
    assert find(Plain("none"), FAR, environ) is None
    assert find(Plain("http://b:1"), FAR, environ) == Proxy("b", 1)
    assert find(Plain("http://b:1"), "http://127.0.0.1", environ) == Proxy("b", 1)


@pytest.mark.parametrize(
    ("text", "credential"),
    [
        ("http://h", None),
        ("http://u:p@h:80", "Basic dTpw"),
        ("http://u@h", "Basic dTo="),
        ("http://:p@h", "Basic OnA="),
        ("http://u%3A:%40@h/", "Basic dTo6QA=="),
    ],
)
def test_a_user_becomes_a_basic_credential(text: str, credential: str | None) -> None:
    proxy = Proxy.parse(text)
    assert (proxy.host, proxy.port) == ("h", 80)
    assert (proxy.credential and proxy.credential.reveal()) == credential
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://u:hunter2@h:1", "only http:// proxies"),
        ("socks5://u:hunter2@h:1", "only http:// proxies"),
        ("http://u:hun/ter2@h:1", "host or port can't be read"),
        ("http://u:hunter2@:1", "names no host"),
        ("http://u:hunter2@h:99999", "host or port can't be read"),
        ("http://u:hunter2@h\r\n:1", "holds a blank"),
        ("http://", "names no host"),
    ],
)
def test_what_is_no_proxy_is_said_without_repeating_it(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        find(Secret(text), FAR, {})
    assert "hun" not in f"{caught.value!r}{caught.value.__cause__!r}"
    with pytest.raises(ValueError, match=f"the proxy that HTTPS_PROXY names can't be used: .*{words}") as caught:
        find(ENV, FAR, {"HTTPS_PROXY": text})
    assert "hun" not in f"{caught.value!r}{caught.value.__cause__!r}"
