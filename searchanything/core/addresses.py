"""Network addresses as settings hold them."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """True for a name or number of this very machine. Names are not looked up: a resolver may say anything."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def host_of(address: str) -> str:
    """The host of `host:port` or of a URI, without credentials; "" where there is none.

    Raises: ValueError for a malformed address.
    """
    return urlsplit(address if "://" in address else f"//{address}").hostname or ""
