"""Which addresses requests may reach: looked at once a connection stands, before anything is sent over it.

Who may name a CRM may name any host, and a name may lead anywhere: to the metadata service of a cloud, which gives out
credentials, or to a service on this very machine. No CRM is there.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpx

from app.domain.connection import is_loopback
from app.domain.errors import InvalidServerUrl

METADATA_SERVICES = frozenset(
    ip_address(text) for text in ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
"""Those of clouds that are not at a link-local address, as most are."""
TRANSLATED = IPv6Network("64:ff9b::/96")
"""Where networks that speak IPv6 alone have the IPv4 addresses (RFC 6052)."""


async def watched(request: httpx.Request) -> None:
    """An event hook: the connection that is opened for the request is closed again if it leads to a wrong address."""
    request.extensions["trace"] = _Watch(request.url.raw_host.decode("ascii"))


class _Watch:
    """Follows what httpcore does for one request."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._connects_to = host

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Raises InvalidServerUrl."""
        if event == "connection.connect_tcp.started":
            self._connects_to = str(info["host"])
        elif event == "connection.connect_tcp.complete" and self._connects_to == self._host:
            stream = info["return_value"]  # otherwise it is a proxy, which has its own view of the network
            address = stream.get_extra_info("server_addr")
            if address and (found := forbidden(str(address[0]), self._host)):
                await stream.aclose()
                raise InvalidServerUrl(
                    f"{self._host} leads to {found}, where no CRM is: nothing was sent.",
                    fix="Correct server_url or the authority of the connection, or the name service.",
                )


def forbidden(address: str, host: str) -> str | None:
    """The address, unless a request to this host may reach it: no address of this machine under another name, none
    of a link or of a cloud's metadata service under any."""
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        found = _within(found) or found
    never = found.is_link_local or found.is_multicast or found.is_unspecified or found in METADATA_SERVICES
    return str(found) if never or (found.is_loopback and not is_loopback(host)) else None


def _within(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a network reaches under this one: mapped, translated (NAT64, RFC 6052) or 6to4."""
    if address in TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
