"""Which server an address means, so that tasks that use the same one can be found without opening what is sealed."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

LOOPBACK = "localhost"


def identity(addresses: Iterable[tuple[str, int]] = (), *, path: str = "", master: str = "") -> str:
    """A fixed name of a server or group of servers: 32 hex digits of SHA-256. No credential goes into it.

    Neither do the database, TLS and the user: they change nothing of where it is. Two names of one host in the DNS
    are two servers here; nobody is asked.

    Args:
        addresses: hosts and ports; their order means nothing.
        path: of a unix socket, instead of addresses.
        master: the name under which Sentinels at these addresses know it.
    """
    places = sorted({f"{host(name)}:{port}" for name, port in addresses})
    text = f"unix {path}" if path else f"{master} {','.join(places)}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def host(name: str) -> str:
    """One spelling of a host: lower case, no dot at the end, numbers written shortest, one name for the loopback."""
    plain = name.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(plain)
    except ValueError:
        return LOOPBACK if plain == LOOPBACK else plain
    mapped = getattr(address, "ipv4_mapped", None) or address
    return LOOPBACK if mapped.is_loopback else str(mapped)
