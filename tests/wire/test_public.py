"""Which addresses count as public, and that Python's own registry agrees where it knows better."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from proxy.wire.public import NAT64, UNICAST, V4, V6, why_not

CLOSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "10.0.0.1": "private",
    "10.255.255.255": "private",
    "100.64.0.1": "shared",
    "100.100.100.200": "shared",
    "100.127.255.255": "shared",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "metadata",
    "169.254.0.1": "link-local",
    "169.254.169.254": "link-local",
    "169.254.170.2": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "reserved",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.7": "documentation",
    "203.0.113.7": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "reserved",
    "::8.8.8.8": "reserved",
    "::ffff:127.0.0.1": "mapped",
    "::ffff:8.8.8.8": "mapped",
    "::ffff:0:127.0.0.1": "reserved",
    "64:ff9b::127.0.0.1": "loopback",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::169.254.169.254": "link-local",
    "64:ff9b:1::8.8.8.8": "reserved",
    "100::1": "reserved",
    "2001::1": "reserved",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "reserved",
    "2001:2::1": "reserved",
    "2001:10::1": "reserved",
    "2001:20::1": "reserved",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "reserved",
    "2002:808:808::1": "reserved",
    "3fff::1": "documentation",
    "3fff:fff:ffff::1": "documentation",
    "5f00::1": "reserved",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fd20:ce::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "scoped",
    "2600::1%eth0": "scoped",
    "febf::1": "link-local",
    "fec0::1": "reserved",
    "ff02::1": "multicast",
    "ffff::1": "multicast",
}
OPEN = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "64:ff9b::8.8.8.8",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700::1111",
    "2a00::1",
    "3ffe::1",
)


@pytest.mark.parametrize(("address", "word"), CLOSED.items())
def test_what_is_not_public_is_told_by_its_sort(address: str, word: str) -> None:
    assert why_not(ip_address(address)) == word


@pytest.mark.parametrize("address", OPEN)
def test_what_is_public_passes_up_to_the_very_edges(address: str) -> None:
    assert why_not(ip_address(address)) is None


def test_nothing_passes_that_python_knows_to_be_special() -> None:
    rolled = random.Random(8)
    asked: list[IPv4Address | IPv6Address] = [IPv4Address(rolled.getrandbits(32)) for _ in range(20_000)]
    for network, _ in (*V4, *V6, (UNICAST, "")):
        first, last = int(network[0]), int(network[-1])
        kind, edges = type(network[0]), (first - 1, first, last, last + 1)
        asked += [kind(number) for number in edges if 0 <= number < 2**network.max_prefixlen]
    asked += [IPv6Address((1 << 125) + rolled.getrandbits(125)) for _ in range(20_000)]
    passed = [one for one in asked if why_not(one) is None and one not in NAT64]
    assert len(passed) > 20_000
    assert [one for one in passed if not one.is_global or one.is_multicast or one.is_reserved] == []
