"""Which addresses of the network a download may reach: public ones, unless somebody says that private ones are meant.

A name is resolved here, its addresses are judged, and the connection is made to just those: whoever runs the name's
server cannot answer a second question otherwise.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

_NAT64 = IPv6Network("64:ff9b::/96")
# Not public either, though not every version of Python knows.
_NOT_PUBLIC = tuple(
    map(
        ip_network,
        (
            "192.88.99.0/24",  # relays for 6to4
            "64:ff9b:1::/48",  # a network's own translation to IPv4
            "2001::/23",  # Teredo, which holds an IPv4 address, and other protocols' own
            "2002::/16",  # 6to4, which holds an IPv4 address
            "3fff::/20",
            "5f00::/16",
            "fec0::/10",
        ),
    )
)


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, IPv4 before IPv6; raises OSError or UnicodeError when there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # IPv6 that leads nowhere is common and costs a whole timeout, IPv4 that is missing fails at once.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def privacy(address: str) -> str:
    """Return what makes an address no public one, in words; "" for a public one."""
    ip: IPv4Address | IPv6Address = ip_address(address)
    inner = _embedded(ip)
    if inner is not None:
        return privacy(str(inner))
    if ip.is_unspecified or ip.is_loopback:
        return "this machine itself"
    if ip.is_link_local:
        return "a link-local address, where machines in a cloud keep their secrets"
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_private and not ip.is_reserved:
        return "an address in a private network"
    if ip.is_reserved or not ip.is_global or any(ip.version == net.version and ip in net for net in _NOT_PUBLIC):
        return "a reserved address"
    return ""


def _embedded(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that is really reached by an IPv6 one."""
    if isinstance(ip, IPv4Address):
        return None
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped
