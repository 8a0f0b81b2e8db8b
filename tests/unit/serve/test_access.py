"""Who may ask, and what they see: keys, their places and rights, hosts, origins."""

from __future__ import annotations

import fcntl
import logging
import socket
from pathlib import Path

import pytest
from fakes.models import drawn
from fakes.serving import IMAGES, Served

from searchanything.core.addresses import is_loopback
from searchanything.core.errors import AccessError, SearchAnythingError, ServeError, SettingsError, UsageError
from searchanything.core.serve_settings import ServeSettings
from searchanything.core.settings import Settings
from searchanything.serve.keys import KeyRing
from searchanything.serve.problems import STATUS, status_of
from searchanything.serve.run import check_host, key_ring, serve


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served.make(tmp_path, monkeypatch, keys=True)


def shown(served: Served, *prefixes: str, rights: tuple[str, ...] = ("read", "refine")) -> Served:
    """The server, asked with a key for these prefixes of its bucket."""
    places = [(served.bucket, prefix) for prefix in prefixes]
    token, _ = served.desk.ring.add(f"key {len(served.desk.ring.all())}", places=places, rights=rights)
    served.headers = {"Authorization": f"Bearer {token}"}
    return served


OPEN = {"/healthz", "/readyz", "/v1/server"}


def test_without_a_key_nothing_is_answered(served: Served) -> None:
    paths = served.get("/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        for method in methods:
            response = served.http.request(
                method, path.replace("{image}", "YQBi").replace("{upload}", "0" * 32), json={}
            )
            if path in OPEN:
                assert response.status_code == 200
                continue
            asked += 1
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["type"].endswith(":AccessError")
    assert asked > 10


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Bearer sa_x_y", "Basic abc", "Bearer \xff", "sa_1_2"])
def test_what_is_no_key_is_refused(served: Served, header: str) -> None:
    shown(served)
    response = served.http.get("/v1/status", headers={"Authorization": header.encode("latin-1")})
    assert response.status_code == 401


def test_a_key_in_the_address_is_no_key(served: Served) -> None:
    token = shown(served).headers["Authorization"].removeprefix("Bearer ")
    assert served.http.get("/v1/status", params={"key": token, "authorization": f"Bearer {token}"}).status_code == 401


def test_a_revoked_key_is_refused_at_once(served: Served) -> None:
    shown(served)
    assert served.get("/v1/status").status_code == 200
    KeyRing(served.folder.parent / "serve").revoke("key 0")  # another process
    assert served.get("/v1/status").status_code == 401


def test_a_scope_holds_on_every_path(served: Served) -> None:
    shown(served, "a/")
    hidden, seen = served.name("b/blue.png"), served.name("a/two.png")
    blue = served.region("a/two.png", 60)
    point = {"kind": "points", "foreground": [[60, 20]]}
    for question in ({"image": seen | {"region": blue}}, {"image": seen, "prompt": point}, {"image": seen}):
        assert {hit["key"][0] for hit in served.ask(**question)["hits"]} == {"a"}
        narrowed = served.ask(**question, filter={"key_prefix": "b/"})
        assert narrowed["hits"] == []
        assert served.ask(**question, filter={"bucket": served.bucket, "images": [hidden]})["hits"] == []
    for document in ({"image": hidden}, {"image": hidden | {"region": 0}}, {"image": hidden, "prompt": point}):
        assert served.post("/v1/query", document).status_code == 404
    assert served.post("/v1/segment", {"image": hidden}).status_code == 404
    assert served.post("/v1/segment/sheet", {"image": hidden}).status_code == 404
    assert served.post("/v1/segment/sheet", {"image": seen}).status_code == 200
    for document in ({"image": hidden, "prompt": point}, {"image": hidden | {"region": 0}}, {"image": hidden}):
        assert served.post("/v1/explain", document | {"expect": seen}).status_code == 404
    assert served.post("/v1/compare", {"image": hidden, "prompt": point}).status_code == 404
    assert served.post("/v1/sheet", {"image": hidden, "prompt": point}).status_code == 404
    compared = served.post("/v1/compare", {"image": seen, "prompt": point}).json()
    assert {one["key"][0] for method in compared["methods"] for one in method["ranking"]} == {"a"}
    marked = {"image": seen | {"region": blue}, "right": [hidden | {"region": 0}]}
    assert served.post("/v1/refine", marked).status_code == 404
    assert served.post("/v1/refine", marked | {"right": [], "wrong": marked["right"]}).status_code == 404
    refined = served.refine(image=seen | {"region": blue}, right=[seen | {"region": blue}])
    assert {hit["key"][0] for hit in refined["hits"]} == {"a"}
    assert served.post("/v1/query", {"like": [seen | {"region": blue}, hidden | {"region": 0}]}).status_code == 404
    assert {hit["key"][0] for hit in served.ask(like=[seen | {"region": n} for n in (0, 1)])["hits"]} == {"a"}
    identity = served.id("b/blue.png")
    for path in ("", "/regions", "/thumbnail"):
        assert served.get(f"/v1/images/{identity}{path}").status_code == 404
    listed = served.get("/v1/images").json()
    assert {one["key"] for one in listed["images"]} == {"a/red.png", "a/two.png"}
    assert listed["total"] == 2
    assert served.get("/v1/images", params={"prefix": "b/"}).json()["total"] == 0
    assert served.get("/v1/status").json()["index"]["images"] == 2
    assert served.get("/metrics").status_code == 403
    upload = served.upload(drawn(64, 96, blue=(10, 10, 60, 50)))
    found = served.ask(image={"upload": upload}, prompt={"kind": "points", "foreground": [[20, 20]]})
    assert {hit["key"][0] for hit in found["hits"]} == {"a"}


@pytest.mark.parametrize(
    "kind", ["prompt", "image", "upload", "stored", "stored image", "several", "text", "marks", "probe"]
)
def test_what_a_key_may_not_see_is_explained_as_what_was_never_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Byte for byte, but for its name; and what is explained shows nothing of it."""
    served = shown(Served.make(tmp_path, monkeypatch, keys=True, words=True), "a/")
    seen, blue = served.name("a/two.png"), served.region("a/two.png", 60)
    marks = {"image": seen | {"region": blue}, "right": [served.name("a/red.png", region=0)]}
    question: dict = {
        "prompt": {"image": seen, "prompt": {"kind": "points", "foreground": [[60, 20]]}},
        "image": {"image": seen},
        "upload": {"image": {"upload": served.upload(IMAGES["b/blue.png"])}},
        "stored": {"image": seen | {"region": blue}},
        "stored image": {"like": [seen]},
        "several": {"like": [seen | {"region": number} for number in (0, 1)]},
        "text": {"text": "blue"},
        "marks": marks,
        "probe": marks | {"right": [], "probe": served.refine(**marks)["probe"]["saved"]},
    }[kind]
    hidden, *unknown = (
        served.post("/v1/explain", question | {"expect": served.name(key)})
        for key in ("b/blue.png", "b/none.png", "a/none.png")
    )
    assert (hidden.status_code, hidden.json()["verdict"]) == (200, "not_indexed"), hidden.text
    for one in unknown:
        key = one.json()["expected"]["key"].encode()
        assert hidden.content.replace(b"b/blue.png", key) == one.content
    visible = served.post("/v1/explain", question | {"expect": served.name("a/red.png"), "limit": 9})
    assert visible.json()["steps"][-1]["name"] != "indexed"
    assert "b/blue" not in visible.text
    assert "b/green" not in visible.text


def test_a_listing_of_one_key_is_not_shown_to_another(served: Served) -> None:
    assert shown(served).get("/v1/images").json()["total"] == 4
    assert shown(served, "b/").get("/v1/images").json()["total"] == 2


def test_rights(served: Served) -> None:
    shown(served, rights=("read",))
    refused = served.post("/v1/refine", {})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:searchanything:problem:AccessError")
    assert served.get("/v1/status").json()["offers"]["refine"] is False
    shown(served)
    assert served.post("/v1/refine", {}).status_code == 422
    assert served.get("/v1/status").json()["offers"]["refine"] is True


def test_neither_log_nor_figures_hold_a_key_or_what_was_asked(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    token = shown(served).headers["Authorization"].removeprefix("Bearer ")
    with caplog.at_level(logging.DEBUG):
        served.get("/v1/images", params={"contains": "blue-secret"})
        served.get(f"/v1/images/{served.id('a/two.png')}")
    lines = [record.getMessage() for record in caplog.records if record.name == "searchanything.serve.frontier"]
    assert len(lines) == 2
    assert "/v1/images/{image} 200" in lines[1]
    for text in (*lines, served.get("/metrics").text):
        assert token not in text
        assert "blue-secret" not in text
    kept = (served.folder.parent / "serve" / "keys.json").read_text()
    assert token not in kept
    assert token.split("_", 2)[2] not in kept


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8600", 200), ("127.0.0.1", 200), ("[::1]:8600", 200), ("192.168.1.7:8600", 200),
        ("search.example.org", 200), ("SEARCH.example.org.:80", 200), ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("search.example.org.evil.example", 403), ("", 403), ("[", 403), ("127.0.0.1.evil.example", 403),
        ("localhost/.evil.example", 403), ("localhost?.evil.example", 403), ("localhost#evil", 403),
        ("evil.example@localhost", 403), ("localhost\\.evil.example", 403), ("localhost:80.evil.example", 403),
        ("[::1].evil.example", 403), ("[::1]:", 200), ("localhost:8600:80", 403),
    ],
)  # fmt: skip
def test_the_host_must_be_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, status: int) -> None:
    settings = ServeSettings(preload=False, allowed_hosts=("search.example.org",))
    served = Served.make(tmp_path, monkeypatch, settings=settings)
    assert served.http.get("/v1/server", headers={"Host": host}).status_code == status
    assert served.http.get("/healthz", headers={"Host": host}).status_code == 200  # probes know it by other names


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8600", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),  # half an address of IPv6, at which urlsplit trips
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
)
def test_pages_of_other_sites_cannot_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    served = Served.make(tmp_path, monkeypatch)
    response = served.http.get("/v1/server", headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


def test_every_answer_keeps_a_browser_strict(served: Served) -> None:
    for path in ("/", "/healthz", "/v1/status", "/nowhere"):
        headers = served.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
    assert served.http.get("/healthz", headers={"X-Request-ID": "mine-7"}).headers["x-request-id"] == "mine-7"
    assert served.http.get("/healthz", headers={"X-Request-ID": "no\tid"}).headers["x-request-id"] != "no\tid"


def test_a_defect_is_a_problem_without_its_text(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(served)
    monkeypatch.setattr(served.desk, "status", lambda _: 1 / 0)
    served.http._transport.raise_server_exceptions = False
    response = served.get("/v1/status")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "division" not in response.text


def subclasses(kind: type[SearchAnythingError]) -> list[type[SearchAnythingError]]:
    return [kind, *(one for child in kind.__subclasses__() for one in subclasses(child))]


def test_every_error_has_a_status() -> None:
    of_ours = [one for one in subclasses(SearchAnythingError) if one.__module__ == "searchanything.core.errors"]
    for kind in of_ours[1:]:
        error = kind.__new__(kind)
        if isinstance(error, AccessError):
            error.known = False
        assert 400 <= status_of(error) < 600, kind
    with pytest.raises(LookupError):
        status_of(SearchAnythingError("bare"))
    assert set(STATUS) <= set(of_ours)


def settings_of(folder: Path, **serve: object) -> Settings:
    return Settings(_env_file=None, serve={"folder": folder, **serve})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),  # noqa: S104
     ("192.168.1.7", False), ("example.org", False), ("127.0.0.1.example.org", False)],
)  # fmt: skip
def test_beyond_loopback_keys_are_demanded(tmp_path: Path, host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    settings = settings_of(tmp_path, host=host)
    if loopback:
        assert key_ring(settings) is None
        with pytest.raises(SettingsError, match="keys add"):
            key_ring(settings_of(tmp_path, host=host, keys="always"))
        return
    with pytest.raises(SettingsError, match="keys add"):
        key_ring(settings)
    KeyRing(tmp_path).add("one")
    assert key_ring(settings) is not None
    KeyRing(tmp_path).revoke("one")
    with pytest.raises(SettingsError, match="keys add"):
        key_ring(settings)


@pytest.mark.parametrize(
    ("names", "demanded"), [((), False), (("localhost",), False), (("localhost", "search.example.org"), True)]
)
def test_a_name_for_others_demands_keys_on_loopback_too(tmp_path: Path, names: tuple[str, ...], demanded: bool) -> None:
    """A proxy on this machine passes on what anybody asks."""
    KeyRing(tmp_path).add("one")
    assert (key_ring(settings_of(tmp_path, allowed_hosts=names)) is not None) == demanded


def test_nobody_is_sent_to_another_address(served: Served) -> None:
    """It would be one of http, even where a proxy speaks TLS."""
    shown(served)
    for path in ("/docs/", "/v1/status/", "/v1/images/"):
        answer = served.http.get(path, headers=served.headers, follow_redirects=False)
        assert answer.status_code == 404
        assert "location" not in answer.headers


@pytest.mark.parametrize("host", ["nosuchhost", "n" * 64])
def test_a_host_without_an_address_is_said_before_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    looked_up = socket.getaddrinfo

    def resolver(name: str, *more: object, **options: object) -> object:
        if name == "nosuchhost":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return looked_up(name, *more, **options)

    served = Served.make(tmp_path, monkeypatch)
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    settings = settings_of(tmp_path, host=host)
    with pytest.raises(SettingsError, match=f"no such address to listen on: {host} ") as raised:
        serve(served.client, settings, started=pytest.fail)
    assert "keys" not in str(raised.value)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "::1", "localhost"])  # noqa: S104
def test_a_host_with_an_address_is_one(host: str) -> None:
    check_host(ServeSettings(host=host, port=0))


def test_names_of_keys(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token, key = ring.add("ops")
    assert ring.find(token) == key
    assert KeyRing(tmp_path).find(token) == key
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="already"):
        ring.add("ops")
    with pytest.raises(UsageError, match="name"):
        ring.add(" ")
    with pytest.raises(UsageError, match="rights"):
        ring.add("b", rights=["write"])
    ring.revoke(key.id)
    with pytest.raises(UsageError, match="keys list"):
        ring.revoke("ops")
    with pytest.raises(AccessError):
        ring.find(token)
    assert ring.add("ops")[1].id != key.id


def test_a_key_that_another_process_revokes_while_one_is_added_stays_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one waits for the file, and reads it after that."""
    ring, lock, waited = KeyRing(tmp_path), fcntl.flock, []
    token, _ = ring.add("old")

    def waiting(file: int, operation: int) -> None:
        if not waited:
            waited.append(operation)
            KeyRing(tmp_path).revoke("old")
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", waiting)
    ring.add("new")
    assert waited == [fcntl.LOCK_EX]
    assert [(key.name, key.revoked_at_ms is None) for key in ring.all()] == [("old", False), ("new", True)]
    with pytest.raises(AccessError):
        ring.find(token)


def test_keys_that_cannot_be_read_let_nobody_in(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    token, _ = ring.add("ops")
    (tmp_path / "keys.json").write_text('{"format": "searchanything-keys/1", "keys": [{}]}')
    with pytest.raises(ServeError, match="cannot be read"):
        ring.find(token)


def test_images_are_there() -> None:
    assert set(IMAGES) >= {"a/two.png", "b/blue.png"}, "the tests of scopes lean on these"
