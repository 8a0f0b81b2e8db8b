"""Loopback never goes through a proxy, however the environment names it; the user's own exceptions stay in force."""

from __future__ import annotations

import ssl
import urllib.request

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.addresses import host_of, is_loopback
from searchanything.core.proxies import LOOPBACK, loopback_without_proxy

NAMES = ["http_proxy", "https_proxy", "all_proxy"]
PROXIES = ["http://127.0.0.1:9", "https://proxy:3128", "proxy:3128", "socks5://p:1080", "socks5h://p", "socks://p:1080"]
PROXIES += ["socks4://u:p@p:1", "SOCKS5://p:1080", ""]
ENVIRONMENTS = st.dictionaries(
    st.sampled_from([*NAMES, *map(str.upper, NAMES)]), st.sampled_from(PROXIES), max_size=6
).flatmap(
    lambda given: st.dictionaries(
        st.sampled_from(["no_proxy", "NO_PROXY"]), st.sampled_from(["", "intranet.example", "10.0.0.1, .corp", "*"])
    ).map(lambda exceptions: given | exceptions)
)
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all clients: each would read every authority there is


def route(client: httpx.Client, url: str) -> bool:
    """Whether httpx would send a request through a proxy."""
    return client._transport_for_url(httpx.URL(url)) is not client._transport


@given(ENVIRONMENTS)
def test_no_client_takes_a_proxy_for_loopback(environment: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in [*NAMES, "no_proxy"]:
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        for name, value in loopback_without_proxy({"PATH": "/bin", **environment}).items():
            patch.setenv(name, value)
        proxied = set(urllib.request.getproxies()) - {"no"}
        assert not proxied or all(urllib.request.proxy_bypass(host) for host in LOOPBACK)
        with httpx.Client(verify=TLS) as client:  # raises for kinds of proxies that it does not know
            for host in ("127.0.0.1", "localhost", "[::1]"):
                assert not route(client, f"http://{host}:4200/api")
                assert not route(client, f"https://{host}:4200/api")


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_exceptions_and_proxies_of_the_user_stay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"HTTP_PROXY": "http://proxy:3128", name: "intranet.example, 10.0.0.7"}
    found = loopback_without_proxy(given)
    assert found["HTTP_PROXY"] == "http://proxy:3128"
    assert found["no_proxy"] == found["NO_PROXY"] == "intranet.example,10.0.0.7,127.0.0.1,localhost,::1"
    assert loopback_without_proxy(found) == found
    for variable in [*NAMES, "no_proxy"]:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    with httpx.Client(verify=TLS) as client:
        assert route(client, "http://elsewhere.example/")
        assert not route(client, "http://intranet.example/")
        assert not route(client, "http://10.0.0.7/")


def test_where_there_is_no_proxy_nothing_is_said() -> None:
    assert loopback_without_proxy({"PATH": "/bin", "ALL_PROXY": "socks://p:1"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:19530", True),
        ("http://127.0.0.1:19530", True),
        ("http://127.8.0.3", True),
        ("http://[::1]:19530", True),
        ("https://milvus.localhost:1", True),
        ("127.0.0.1:9000", True),
        ("localhost:9000", True),
        ("http://127.8.9.1/x", True),
        ("[::1]:80", True),
        ("a.localhost", True),
        ("http://milvus:19530", False),
        ("http://10.0.0.1:19530", False),
        ("10.0.0.1", False),
        ("http://localhost.example:1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("http://127.0.0.1@evil.example:9000", False),
        ("/data/index.db", False),
    ],
)
def test_what_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(host_of(url)) is expected
