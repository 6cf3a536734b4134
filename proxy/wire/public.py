"""Which addresses are somebody's on the open internet: globally routable unicast, and nothing else."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IPAddress = IPv4Address | IPv6Address

# IANA's registries of special-purpose addresses, read in November 2026. A table of our own: what ipaddress calls global
# has changed between versions of Python, and some clouds' own services stand on addresses that look public.
V4 = tuple(
    (IPv4Network(network), word)
    for network, word in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),  # carriers' NAT; Alibaba's metadata, 100.100.100.200
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "metadata"),  # Azure's: it is a public one by number
        ("169.254.0.0/16", "link-local"),  # everybody's metadata, 169.254.169.254
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),  # Oracle's metadata, 192.0.0.192
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),  # these three are answered by whoever is near (AS112, AMT)
        ("192.52.193.0/24", "reserved"),
        ("192.175.48.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),  # once 6to4's relays
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
# Of IPv6 only this is given to anybody; what lies outside (::1, fe80::, fc00::, ff00::, ::ffff:0:0/96 and whatever
# comes next) needs no entry.
UNICAST = IPv6Network("2000::/3")
V6 = tuple(
    (IPv6Network(network), word)
    for network, word in (
        ("2001::/23", "reserved"),  # Teredo, ORCHID, benchmarking, AMT, AS112: all with another address inside, or none
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "reserved"),  # 6to4: any IPv4 address, private ones too
        ("2620:4f:8000::/48", "reserved"),  # AS112
        ("3fff::/20", "documentation"),
    )
)
NAT64 = IPv6Network("64:ff9b::/96")  # with DNS64 in a network without IPv4, all that has no IPv6 address is there
SPECIAL = (
    (IPv6Network("::/128"), "unspecified"),
    (IPv6Network("::1/128"), "loopback"),
    (IPv6Network("::ffff:0:0/96"), "mapped"),
    (IPv6Network("fc00::/7"), "private"),  # AWS's metadata, fd00:ec2::254
    (IPv6Network("fe80::/10"), "link-local"),
    (IPv6Network("ff00::/8"), "multicast"),
)


def why_not(address: IPAddress) -> str | None:
    """None where that address is public; else what it is, in a word."""
    if isinstance(address, IPv4Address):
        return next((word for network, word in V4 if address in network), None)
    if address.scope_id is not None:
        return "scoped"
    if address in NAT64:
        return why_not(IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in UNICAST:
        return next((word for network, word in SPECIAL if address in network), "reserved")
    return next((word for network, word in V6 if address in network), None)


def literal(host: str) -> IPAddress | None:
    """The address that a host is, written as it should be; None: it is a name, or written otherwise."""
    try:
        return ip_address(host)
    except ValueError:
        return None
