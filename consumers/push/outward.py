"""Which addresses a message may lead us to: public ones, and nothing inside any network.

The Web Push adapter calls the endpoint that stands in a message. Its transport asks here about each
address as it connects, so that no name, and no change of what a name stands for, leads to this
machine, to a neighbour or to a cloud's metadata service.
"""

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in its last 32 bits
_UNICAST = ipaddress.ip_network("2000::/3")  # what is handed out of IPv6
# Tunnels to an IPv4 address inside the IPv6 one: 6to4, Teredo.
_TUNNELS = (ipaddress.ip_network("2002::/16"), ipaddress.ip_network("2001::/32"))


def is_public(address: str) -> bool:
    """Whether an IP address is of the public internet; anything else, and no address at all, is
    not."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is None:
            return found.is_global and found in _UNICAST and not any(found in t for t in _TUNNELS)
        found = inner
    return found.is_global and not found.is_multicast
