"""Standing queries over REST: who may keep which, where they may send to, and how matches are fetched."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request

import pytest
from fakes.http_servers import Asked, WebServer, web_server
from fakes.models import drawn
from fakes.serving import IMAGES, Served, png_of
from fakes.standing import Hook, add_noise, hooked
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from searchanything.answers.standing_answers import NewMatches
from searchanything.client.standing_queries import StandingQueries
from searchanything.core.errors import AccessError, SearchAnythingError, SettingsError, UsageError
from searchanything.core.serve_settings import ServeSettings
from searchanything.serve.allowed_webhooks import allowed_webhook, check_allowed

BLUE = {"kind": "points", "foreground": [[70, 20]]}
NEW = drawn(64, 96, blue=(50, 8, 90, 40), green=(4, 4, 40, 60))


@pytest.fixture
def hook() -> Iterator[tuple[Hook, WebServer, str]]:
    with hooked("hooks/") as one:
        yield one


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: tuple[Hook, WebServer, str]) -> Served:
    made = Served.make(
        tmp_path, monkeypatch, keys=True, settings=ServeSettings(preload=False, webhooks=hook[2]), words=True
    )
    add_noise(made.client)
    return shown(made)


def shown(served: Served, *prefixes: str, rights: tuple[str, ...] = ("read", "standing")) -> Served:
    """The server, asked with a key of its own for these prefixes of its bucket."""
    places = [(served.bucket, prefix) for prefix in prefixes]
    token, _ = served.desk.ring.add(f"key {len(served.desk.ring.all())}", places=places, rights=rights)
    served.headers = {"Authorization": f"Bearer {token}"}
    return served


def added(served: Served, name: str = "blue", **more: object) -> dict:
    question = {"name": name, "image": served.name("a/two.png"), "prompt": BLUE} | more
    response = served.post("/v1/standing", question)
    assert response.status_code == 201, response.text
    return response.json()


def index_new(served: Served, *keys: str) -> None:
    for key in keys:
        (served.folder / key).write_bytes(png_of(NEW))
    served.client.index(served.folder)


def keys_of(document: dict) -> dict[str, list[str]]:
    return {one["query"]: sorted(match["key"] for match in one["matches"]) for one in document["matches"]}


def test_matches_come_until_they_are_taken(served: Served) -> None:
    query = added(served)
    assert query["added_by"] == "key 0"
    assert query["image"].endswith("a/two.png")
    index_new(served, "a/new.png")
    first = served.get("/v1/standing/matches").json()
    assert keys_of(first) == {"blue": ["a/new.png"]}
    assert first["complete"]
    assert keys_of(served.get("/v1/standing/matches").json()) == keys_of(first)
    [match] = first["matches"][0]["matches"]
    assert served.get(f"/v1/images/{match['id']}").json()["key"] == "a/new.png"
    assert served.post("/v1/standing/matches/taken", {"taken": first["taken"]}).status_code == 204
    assert served.get("/v1/standing/matches").json()["matches"] == []
    [status] = served.get("/v1/standing").json()["queries"]
    taken = first["taken"][query["id"]]
    assert status["looked_until_ms"] == taken["until_ms"] > taken["new_from_ms"]


def test_every_kind_of_question_can_be_kept(served: Served) -> None:
    two, upload = served.name("a/two.png"), served.upload(IMAGES["a/two.png"])
    added(served, "region", image=two | {"region": served.region("a/two.png", 60)}, prompt=None)
    added(served, "upload", image={"upload": upload})
    added(served, "box", prompt={"kind": "box", "box_xyxy": [50, 8, 90, 40]})
    added(served, "words", image=None, prompt=None, text="blue", max_false_match=1.0)
    question = json.dumps({"name": "form", "prompt": BLUE})
    form = {"image": ("a.png", png_of(IMAGES["a/two.png"])), "question": (None, question)}
    assert served.http.post("/v1/standing", files=form, headers=served.headers).status_code == 201
    index_new(served, "b/new.png")
    found = keys_of(served.get("/v1/standing/matches").json())
    assert {name: "b/new.png" in keys for name, keys in found.items()} == dict.fromkeys(
        ("region", "upload", "box", "words", "form"), True
    )


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"image": None}, 422),
        ({"text": "blue"}, 422),
        ({"text": "blue", "image": None}, 422),
        ({"text": "blue", "prompt": None}, 422),
        ({"name": ""}, 422),
        ({"name": "\u202e"}, 422),
        ({"max_false_match": 0}, 422),
        ({"max_false_match": 1e-12}, 422),
        ({"filter": {"indexed_at_ms": [1, None]}}, 422),
        ({"image": {"bucket": "nowhere", "key": "a.png"}}, 404),
        ({"like": []}, 422),
        ({"webhook": "ftp://ops.example.org/"}, 422),
        ({"webhook": "https://elsewhere.example/hooks/a"}, 403),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_stays(served: Served, change: dict, status: int) -> None:
    question = {"name": "blue", "image": served.name("a/two.png"), "prompt": BLUE} | change
    assert served.post("/v1/standing", question).status_code == status
    question["image"] = served.name("a/two.png", region=0)
    assert served.post("/v1/standing", question | {"prompt": BLUE}).status_code in (403, 422)
    assert served.get("/v1/standing").json() == {"queries": []}


def test_a_right_of_its_own_is_needed_that_no_key_has_unasked(served: Served) -> None:
    query = added(served)
    shown(served, rights=("read", "refine"))
    asked = [
        served.post("/v1/standing", {"name": "b", "image": served.name("a/two.png")}),
        served.get("/v1/standing"),
        served.get("/v1/standing/matches"),
        served.post("/v1/standing/matches/taken", {"taken": {}}),
        served.post(f"/v1/standing/{query['id']}/test"),
        served.get(f"/v1/standing/{query['id']}/thumbnail"),
        served.http.delete(f"/v1/standing/{query['id']}", headers=served.headers),
        served.http.post("/v1/standing", files={"image": b"x"}, headers=served.headers),
    ]
    assert {one.status_code for one in asked} == {403}
    assert "'standing'" in asked[0].json()["detail"]
    assert served.get("/v1/status").json()["offers"]["standing"] is False
    _, key = served.desk.ring.add("usual")
    assert key.rights == ("read", "refine")


def test_a_key_keeps_sees_and_fetches_what_lies_in_its_places(served: Served) -> None:
    everything = dict(served.headers)
    add_noise(served.client, served.bucket, "a/", seed=5)
    shown(served, "a/")
    mine = added(served)
    assert mine["places"] == [{"bucket": served.bucket, "key_prefix": "a/"}]
    hidden = {"name": "h", "image": served.name("b/blue.png"), "prompt": BLUE}
    assert served.post("/v1/standing", hidden).status_code == 404
    index_new(served, "a/new.png", "b/new.png")
    mine_headers = dict(served.headers)
    shown(served, "b/")
    assert served.get("/v1/standing").json() == {"queries": []}
    assert served.get("/v1/standing/matches").json()["matches"] == []
    for method, path in (("DELETE", ""), ("POST", "/test"), ("GET", "/thumbnail")):
        asked = served.http.request(method, f"/v1/standing/{mine['id']}{path}", headers=served.headers)
        assert asked.status_code == 404
    assert served.get("/v1/standing/matches", params={"query": mine["id"]}).status_code == 404
    served.headers = mine_headers
    found = served.get("/v1/standing/matches", params={"query": mine["id"]}).json()
    assert keys_of(found) == {"blue": ["a/new.png"]}
    served.headers = everything
    assert [one["id"] for one in served.get("/v1/standing").json()["queries"]] == [mine["id"]]


def test_a_webhook_gets_a_test_and_matches_without_the_address_of_the_index(
    served: Served, hook: tuple[Hook, WebServer, str]
) -> None:
    query = added(served, webhook=f"{hook[2]}blue")
    assert query["webhook"] == hook[2].replace("hooks/", "…")
    assert served.post(f"/v1/standing/{query['id']}/test").status_code == 204
    index_new(served, "a/new.png")
    assert served.client.standing.deliver().sent == {"blue": 1}
    for asked in hook[1].asked:
        assert asked.target == "/hooks/blue"
        assert b'"index": null' in asked.body
    hook[0].status = 500
    assert served.post(f"/v1/standing/{query['id']}/test").status_code == 502


def test_the_server_tests_no_webhook_that_it_may_not_send_to(served: Served, hook: tuple[Hook, WebServer, str]) -> None:
    """It was added on the command line, or before the list was shortened."""
    other = hook[2].replace("hooks/", "others/")
    query = served.client.standing.add("elsewhere", served.folder / "a/two.png", (70, 20), webhook=other)
    assert served.post(f"/v1/standing/{query.id}/test").status_code == 403
    assert hook[1].asked == []


def test_a_webhook_that_is_slow_keeps_no_list_waiting(served: Served) -> None:
    begun, over = threading.Barrier(3), threading.Event()

    def slow(_asked: Asked) -> tuple[int, dict[str, str], bytes]:
        begun.wait(30)
        over.wait(30)
        return 200, {}, b""

    with web_server(slow) as server, ThreadPoolExecutor(8) as threads:
        served.desk.settings = ServeSettings(preload=False, webhooks=f"http://{server.endpoint}/")
        query = added(served, webhook=f"http://{server.endpoint}/hits")
        tests = [threads.submit(served.post, f"/v1/standing/{query['id']}/test") for _ in range(6)]
        begun.wait(30)
        listed = threads.submit(served.get, "/v1/standing")
        try:
            assert listed.result(10).status_code == 200
        finally:
            begun.abort()
            over.set()
        assert {one.result(30).status_code for one in tests} <= {204, 502}


def test_looks_that_take_long_keep_no_list_waiting(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over = threading.Barrier(3), threading.Event()

    def long(*_: object, **__: object) -> NewMatches:
        begun.wait(30)
        over.wait(30)
        return NewMatches()

    monkeypatch.setattr(StandingQueries, "fetch", long)
    query = added(served)
    with ThreadPoolExecutor(4) as threads:
        looks = [threads.submit(served.get, "/v1/standing/matches") for _ in range(2)]
        begun.wait(30)
        asked = [threads.submit(served.get, f"/v1/standing{path}") for path in ("", f"/{query['id']}/thumbnail")]
        try:
            assert [one.result(10).status_code for one in asked] == [200, 200]
        finally:
            over.set()
        assert [one.result(30).status_code for one in looks] == [200, 200]


def test_a_query_is_removed_by_its_id(served: Served) -> None:
    query = added(served)
    assert served.http.delete("/v1/standing/blue", headers=served.headers).status_code == 404
    assert served.http.delete(f"/v1/standing/{query['id']}", headers=served.headers).status_code == 204
    assert served.http.delete(f"/v1/standing/{query['id']}", headers=served.headers).status_code == 404
    assert served.get("/v1/standing").json() == {"queries": []}


def test_its_picture_is_small(served: Served) -> None:
    query = added(served)
    response = served.get(f"/v1/standing/{query['id']}/thumbnail", params={"side": 96})
    picture = Image.open(io.BytesIO(response.content))
    assert response.headers["content-type"] == "image/webp"
    assert picture.width < 60, "the blue thing alone"
    blue = picture.getpixel((picture.width // 2, picture.height // 2))
    assert blue[2] > max(blue[:2])
    words = added(served, "words", image=None, prompt=None, text="blue", max_false_match=1.0)
    assert served.get(f"/v1/standing/{words['id']}/thumbnail").status_code == 422


def test_what_is_taken_is_limited(served: Served) -> None:
    query = added(served)
    for seen in ({"x": 1}, {"0" * 16: -1}, {f"{number:016x}": 1 for number in range(20_001)}):
        taken = {query["id"]: {"until_ms": 1, "new_from_ms": 1, "seen": seen}}
        assert served.post("/v1/standing/matches/taken", {"taken": taken}).status_code in (413, 422)


# --- where may be sent to

ALLOWED = ["https://ops.example.org/hooks/", "http://plain.example/hooks", "https://one.example/a?to=b"]


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        ("https://ops.example.org/hooks/", "https://ops.example.org/hooks/a"),
        ("https://ops.example.org/hooks/", "https://OPS.example.org:443/hooks/a/b?key=1"),
        ("https://ops.example.org/hooks", "https://ops.example.org/hooks"),
        ("https://ops.example.org/hooks", "https://ops.example.org/hooks?key=1"),
        ("https://ops.example.org", "https://ops.example.org/anything"),
        ("http://plain.example/hooks/", "http://plain.example:80/hooks/a"),
        ("http://10.0.0.7:8080/a", "http://10.0.0.7:8080/a/b"),
        ("https://ops.example.org/a?to=b", "https://ops.example.org/a?to=b"),
        ("https://ops.example.org/a?to=b", "https://OPS.example.org:443/a?to=b"),
        ("https://ops.example.org/a%20b", "https://ops.example.org/a%20b"),
        ("http://[fd00::7]:8080/hooks/", "http://[FD00::7]:8080/hooks/a"),
    ],
)
def test_an_address_below_an_allowed_one_is_allowed(allowed: str, address: str) -> None:
    assert allowed_webhook(address, ["https://other.example", allowed]) == address


@pytest.mark.parametrize(
    "address",
    [
        "http://ops.example.org/hooks/a",
        "https://ops.example.org:8443/hooks/a",
        "https://ops.example.org.evil.example/hooks/a",
        "https://evil.example/https://ops.example.org/hooks/a",
        "https://ops.example.org/hooksier",
        "https://ops.example.org/",
        "https://ops.example.org/hooks/../admin",
        "https://ops.example.org/hooks/%2e%2e/admin",
        "https://ops.example.org/hooks/%252e%252e/admin",
        "https://ops.example.org/hooks/..%2fadmin",
        "https://ops.example.org/hooks/..\\admin",
        "https://ops.example.org/hooks/..;/admin",
        "https://ops.example.org/hooks/..;a=1/admin",
        "https://ops.example.org/hooks/%c0%ae%c0%ae/admin",
        "https://ops.example.org/hooks/..%00/admin",
        "https://ops.example.org/hooks/%2561",
        "https://127.0.0.1/hooks/a",
        "http://plain.example:443/hooks/a",
        "http://plain.example/hooksier",
        "https://one.example/a?to=c",
        "https://one.example/a",
        "https://one.example/a/b?to=b",
    ],
)
def test_any_other_is_not(address: str) -> None:
    with pytest.raises(AccessError) as refused:
        allowed_webhook(address, ALLOWED)
    assert refused.value.known
    with pytest.raises(AccessError):
        allowed_webhook(address, [])


@pytest.mark.parametrize(
    "address",
    [
        "https://ops.example.org/hooks/a#/../../admin#",
        "http://evil.example[fd00::7]/hooks/a",
        "http://[fd00::7].evil.example/hooks/a",
        "http://[fd00::7]evil.example:80/hooks/a",
        "https://ops.example.org\\@evil.example/hooks/a",
    ],
)
def test_what_others_read_as_another_address_is_none(address: str) -> None:
    """What is sent to is not always what `urlsplit` reads."""
    with pytest.raises(UsageError):
        allowed_webhook(address, ["https://ops.example.org/hooks/", "http://[fd00::7]/hooks/"])


@given(st.text("ahops:/.;%2e\\?#@&=1[]", max_size=40))
def test_no_text_leads_elsewhere(rest: str) -> None:
    try:
        address = allowed_webhook(f"https://ops.example.org/hooks/{rest}", ["https://ops.example.org/hooks/"])
    except SearchAnythingError:
        return
    assert address is not None
    sent = Request(address)  # noqa: S310 - nothing is sent
    path = sent.selector.removeprefix("/hooks/").partition("?")[0]
    assert not {".", ".."} & {name.partition(";")[0] for name in path.split("/")}


def test_what_is_no_address_cannot_be_allowed() -> None:
    check_allowed(["https://ops.example.org/hooks/"])
    with pytest.raises(SettingsError, match="SERVE__WEBHOOKS"):
        check_allowed(["ops.example.org"])
    with pytest.raises(UsageError):
        allowed_webhook("ops.example.org", ["https://ops.example.org"])
    assert allowed_webhook(None, []) is None


def test_where_no_key_is_demanded_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Served.make(tmp_path, monkeypatch, words=True)
    add_noise(made.client)
    assert added(made)["added_by"] is None
    assert [one["places"] for one in made.get("/v1/standing").json()["queries"]] == [[]]
