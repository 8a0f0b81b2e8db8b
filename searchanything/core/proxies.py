"""Loopback never goes through a proxy: what the environment must say so that clients of our own servers reach them.

Most clients (httpx, websockets, urllib, gRPC) take `http_proxy`, `https_proxy` and `ALL_PROXY` even for 127.0.0.1.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Final

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_EXCEPTIONS: Final = ("no_proxy", "NO_PROXY")  # where both are set, most clients read the first
_HTTP: Final = frozenset({"", "http", "https"})
_SOCKS: Final = frozenset({"socks5", "socks5h"})  # httpx knows them where `socksio` is installed, and no other kind


def loopback_without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """The same environment with loopback among the exceptions from proxies; the user's own exceptions stay.

    Proxies of a kind that Prefect's client refuses, whatever it is to reach, are left out: no other client of the
    service takes them from the environment either.
    """
    sound = {name: value for name, value in environment.items() if not _is_proxy(name) or _usable(value)}
    if not any(_is_proxy(name) for name in sound):
        return sound
    return sound | dict.fromkeys(_EXCEPTIONS, _with_loopback(next((sound[n] for n in _EXCEPTIONS if sound.get(n)), "")))


def _with_loopback(exceptions: str) -> str:
    known = [one.strip() for one in exceptions.split(",") if one.strip()]
    return exceptions if "*" in known else ",".join([*known, *(one for one in LOOPBACK if one not in known)])


def _is_proxy(name: str) -> bool:
    return name.lower().endswith("_proxy") and name.lower() != "no_proxy"


def _usable(proxy: str) -> bool:
    scheme = proxy.partition("://")[0].lower() if "://" in proxy else ""
    return scheme in _HTTP or (scheme in _SOCKS and importlib.util.find_spec("socksio") is not None)
