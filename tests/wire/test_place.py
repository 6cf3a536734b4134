"""A provider's URL, read strictly: where two readers could differ it is refused, and nothing of it is told."""

from __future__ import annotations

import pytest

from proxy.model.fetch import FetchRefused
from proxy.wire.place import Place
from proxy.wire.public import why_not

SECRET = "s3cr3t"
UNREADABLE = (
    "",
    "cdn.test/a.png",
    "//cdn.test/a.png",
    "/a.png",
    "file:///etc/passwd",
    "ftp://cdn.test/a.png",
    "gopher://cdn.test/",
    "data:image/png;base64,AAAA",
    "blob:https://cdn.test/1",
    "unix:/run/docker.sock",
    "https:cdn.test/a.png",
    "https:/cdn.test/a.png",
    "https:///a.png",
    "https://",
    "https://:443/",
    "https://?a",
    "http\u017f://cdn.test/",
    " https://cdn.test/",
    "https://cdn.test/a b.png",
    "https://cdn.test/a\tb.png",
    "https://cdn.test/a\r\nHost: x",
    "https://cdn.test/\x00",
    "https://cdn.test\\@10.0.0.1/",
    "https:\\\\cdn.test\\a.png",
    "https://user@cdn.test/",
    "https://user:s3cr3t@cdn.test/",
    "https://cdn.test:s3cr3t@10.0.0.1/",
    "https://@cdn.test/",
    "https://cdn.test:/",
    "https://cdn.test:0/",
    "https://cdn.test:65536/",
    "https://cdn.test:4 43/",
    "https://cdn.test:+443/",
    "https://cdn.test:443:80/",
    "https://cdn..test/",
    "https://.cdn.test/",
    "https://cdn.test../",
    "https://-cdn.test/",
    "https://cdn-.test/",
    "https://cdn%2etest/",
    "https://%31%32%37.0.0.1/",
    "https://cdn.test,10.0.0.1/",
    "https://cdn.test;x/",
    "https://{cdn}.test/",
    "https://b\u00fccher.test/",
    "https://\uff11\uff12\uff17.0.0.1/",  # digits of full width
    "https://127\u30020\u30020\u30021/",  # full stops of another script
    "https://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/",  # letters in circles
    "https://\u212aeys.test/",  # the sign of Kelvin, a k in lower case
    "https://[::1/",
    "https://::1/",
    "https://[::1]x/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[v1.a]/",
    "https://[1:2]/",
    "https://[127.0.0.1]/",
    "https://" + "a" * 64 + ".test/",
    "https://" + "a." * 127 + "test/",
    "https://cdn.test/" + "a" * 2**14,
)
NOT_FOR_STRANGERS = (
    "http://cdn.test/a.png",
    "https://cdn.test:80/",
    "https://cdn.test:8443/",
    "https://cdn.test:22/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://a.localhost/",
    "https://a.localhost./",
    "https://printer.local/",
    "https://db.svc.cluster.local/",
    "https://metadata.google.internal/",
    "https://nas.home.arpa/",
    "https://x.onion/",
    "https://redis/",
    "https://metadata/",
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://2130706433./",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0x7f000001/",
    "https://0x7F.0.0.1/",
    "https://0x7f.1/",
    "https://0x/",
    "https://0/",
    "https://0.0.0.0/",
    "https://127.0.0.1.2/",
    "https://256.256.256.256/",
    "https://8.8.8/",
    "https://010.8.8.8/",
    "https://00000000010.8.8.8/",
    "https://cdn.test.0x1/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://168.63.129.16/",
    "https://100.100.100.200/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::FFFF:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::1]/",
    "https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[ff02::1]/",
)
FOR_STRANGERS = (
    "https://cdn.test/a.png",
    "HTTPS://CDN.Test:443/a.png",
    "https://cdn.test./a.png",
    "https://my_bucket.s3.test/a.png",
    "https://xn--bcher-kva.test/",
    "https://8.8.8.8/",
    "https://[2606:4700::1111]/",
    "https://0x.test/",
    "https://1.test/",
    "https://localhost.test/",
    "https://internal.test/",
)


@pytest.mark.parametrize("url", UNREADABLE)
def test_what_can_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(FetchRefused) as caught:
        Place.parse(url)
    assert SECRET not in caught.value.message and (not url or url not in caught.value.message)


@pytest.mark.parametrize("url", NOT_FOR_STRANGERS)
def test_where_no_stranger_may_lead_us(url: str) -> None:
    with pytest.raises(FetchRefused):
        Place.parse(url).judge(why_not)


@pytest.mark.parametrize("url", FOR_STRANGERS)
def test_where_everybody_may_lead_us(url: str) -> None:
    Place.parse(url).judge(why_not)


def test_what_is_signed_is_asked_for_byte_for_byte() -> None:
    asked = "/a%2Fb/%7e~//../x;y=1?X-Sig=%2b+%3D=='\"<>|^`{}&&e=%zz"
    place = Place.parse(f"https://Cdn.Test{asked}#fragment?x")
    assert (place.host, place.port, place.target) == ("cdn.test", 443, asked)
    assert place.url == f"https://cdn.test{asked}"


def test_what_is_not_ascii_behind_the_host_is_written_as_utf_8() -> None:
    assert Place.parse("https://cdn.test/\u732b.png?q=\u00e9").target == "/%E7%8C%AB.png?q=%C3%A9"
    assert Place.parse("https://cdn.test?a").target == "/?a"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://other.test/b", "https://other.test/b"),
        ("//other.test/b", "https://other.test/b"),
        ("/b?c", "https://cdn.test/b?c"),
        ("b", "https://cdn.test/x/b"),
        ("../b", "https://cdn.test/b"),
        ("?c", "https://cdn.test/x/a.png?c"),
        ("", "https://cdn.test/x/a.png?sig=1"),
    ],
)
def test_a_redirect_leads_on_from_where_it_stands(location: str, url: str) -> None:
    assert Place.parse("https://cdn.test/x/a.png?sig=1").to(location).url == url


@pytest.mark.parametrize("location", ["http://cdn.test/", "file:///etc/passwd", "https://[::1", "javascript:x", "/a b"])
def test_a_redirect_leads_to_nothing_else(location: str) -> None:
    with pytest.raises(FetchRefused):
        Place.parse("https://cdn.test/x").to(location)


def test_shown_it_is_no_more_than_its_origin() -> None:
    place = Place.parse(f"https://cdn.test/{SECRET}?sig={SECRET}")
    assert repr(place) == "<Place https://cdn.test>" and SECRET not in f"{place} {place!r}"
    assert Place.parse("http://[::1]:8080/x").origin == "http://[::1]:8080"
