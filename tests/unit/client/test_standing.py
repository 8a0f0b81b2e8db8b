"""Standing queries: what is new matches once, whatever is killed, indexed again, replaced or refused meanwhile."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.index_rows import fresh_generation, image_row, region_row
from fakes.hash_layers import layer_file, live_of
from fakes.http_servers import WebServer, web_server
from fakes.models import drawn
from fakes.standing import RED, Hook, add_noise, draw, fetched, forget_noise, in_stretches, keys_of, opened
from PIL import Image

from searchanything.answers.standing_answers import StandingDelivery
from searchanything.backup.backup import back_up, restore
from searchanything.backup.files import ObjectsPlace, TarPlace
from searchanything.cli.app import run
from searchanything.client import standing_looks
from searchanything.client.client import Client
from searchanything.client.connection import Connection
from searchanything.client.standing_features import LOOKING
from searchanything.client.standing_memory import DELIVERED, FETCHED, StandingMemory
from searchanything.client.standing_queries import StandingQueries
from searchanything.core.errors import PromptError, RegionIndexError, UsageError, WebhookError, WordsMissingError
from searchanything.core.settings import Settings
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.ingest import forget
from searchanything.stores import milvus
from searchanything.stores.files import FolderFiles
from searchanything.stores.memory import MemoryIndexStore


def test_what_is_indexed_from_then_on_matches_once(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    assert fetched(client) == {}, "what was there already"
    draw(images / "new.png")
    client.index(images)
    assert fetched(client) == {"red": ["new.png"]}
    assert fetched(client) == {}
    client.index(images, force=True)
    assert fetched(client) == {}, "indexed again, of the same content"
    draw(images / "new.png", red=34)
    client.index(images)
    assert fetched(client) == {"red": ["new.png"]}, "another content"


def test_a_match_says_which_region_how_near_and_since_when(client: Client, images: Path) -> None:
    query = client.standing.add("red", images / "0.png", RED, max_false_match=1e-4)
    draw(images / "new.png")
    client.index(images)
    with client.standing.new_matches() as found:
        [one] = found.matches
        [match] = one.matches
    row = client.image(ImageRef(str(images), "new.png"))
    assert match.first_at_ms == row.first_at_ms >= query.created_at_ms
    assert match.hit.false_match is not None
    assert match.hit.false_match <= 1e-4
    hits = client.query(images / "0.png", RED, limit=100, filter=Filter(images=[row.image]))
    assert (match.hit.region, match.hit.distance_bits) == (hits[0].region, hits[0].distance_bits)
    document = one.to_dict()
    assert (document["query"], document["query_id"]) == ("red", query.id)
    assert document["matches"][0]["first_indexed_at_ms"] == match.first_at_ms


def test_what_was_not_taken_comes_again(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    with pytest.raises(KeyError), client.standing.new_matches() as found:
        {one.query.name: one for one in found.matches}["blue"]
    assert fetched(client) == {"red": ["new.png"]}


@pytest.mark.usefixtures("advancing")
def test_what_was_indexed_long_ago_is_not_new_when_it_is_indexed_again(client: Client, images: Path) -> None:
    """Its rows are new, and no look remembers it any more."""
    with opened(client._parts.connection.indexes, overlap_s=0) as later:  # type: ignore[arg-type]
        later.standing.add("red", images / "0.png", RED)
        assert fetched(later) == {}
        assert later.index(images, force=True).indexed == 3
        assert fetched(later) == {}
        draw(images / "new.png")
        later.index(images)
        assert fetched(later) == {"red": ["new.png"]}


@pytest.mark.usefixtures("advancing")
def test_what_failed_before_is_new_once_it_is_indexed(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    file = images / "new.png"
    draw(file)
    whole = file.read_bytes()
    client._parts.connection.settings.ingest.max_pixels = 100
    assert client.index(images).failed == 1
    client._parts.connection.settings.ingest.max_pixels = 10_000_000
    with opened(client._parts.connection.indexes, overlap_s=0) as later:  # type: ignore[arg-type]
        assert fetched(later) == {}
        assert file.read_bytes() == whole
        assert later.retry_failed(images).indexed == 1
        assert fetched(later) == {"red": ["new.png"]}


def test_a_worker_that_writes_late_is_found_within_the_overlap(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    index = live_of(client)
    [near] = [one for one in client.regions(ImageRef(str(images), "0.png")) if one.region == 0]
    [other] = client.query(images / "0.png", RED, limit=1)
    code = {one.region: one.code for one in client.regions(other.image)}[other.region or 0]
    started = forget.now_ms() - 60_000  # it stamped its rows then, and was suspended
    assert fetched(client) == {}
    image, age = ImageRef("late", "a.png"), fresh_generation()
    index.insert_regions(
        [region_row(image, generation=age, code=code, indexed_at_ms=started, words_code=near.words_code)]
    )
    assert fetched(client) == {}, "not committed yet"
    index.insert_images([image_row(image, generation=age, regions=1, first_at_ms=started, last_at_ms=started)])
    assert fetched(client) == {"red": ["a.png"]}
    assert fetched(client) == {}


def test_what_was_there_is_not_new_when_rates_change(client: Client, images: Path) -> None:
    """Far regions come in, so what was a little too far to match is near enough for another process."""
    index, [nearest] = live_of(client), client.query(images / "0.png", RED, limit=1)
    [stored] = [one for one in client.regions(nearest.image) if one.region == nearest.region]
    bits = np.unpackbits(np.frombuffer(stored.code, np.uint8))
    rng = np.random.default_rng(7)

    def add(key: str, flipped: int, regions: int = 1) -> None:
        image, age, now = ImageRef("near", key), fresh_generation(), forget.now_ms()
        changes = rng.permuted(np.tile(np.arange(len(bits)) < flipped, (regions, 1)), axis=1)
        rows = [
            region_row(
                image, region, generation=age, code=code.tobytes(), indexed_at_ms=now, words_code=stored.words_code
            )
            for region, code in enumerate(np.packbits(bits ^ changes, axis=1))
        ]
        index.insert_regions(rows)
        index.insert_images([image_row(image, generation=age, regions=regions, first_at_ms=now, last_at_ms=now)])

    def matching(asked: Client) -> int:
        return len(asked.query(images / "0.png", RED, limit=50, max_false_match=1e-2, filter=Filter(bucket="near")))

    for number in range(12):
        add(f"{number}.png", 80 + 4 * number)
    before = matching(client)
    client.standing.add("red", images / "0.png", RED, max_false_match=1e-2)
    add("far.png", 140, regions=6000)
    with opened(client._parts.connection.indexes) as later:  # type: ignore[arg-type]
        assert matching(later) > before > 0
        assert fetched(later) == {}
        add("as-far.png", 80 + 4 * before)
        assert fetched(later) == {"red": ["as-far.png"]}, "it came after the query"
        draw(images / "new.png")
        later.index(images)
        assert fetched(later) == {"red": ["new.png"]}


def test_indexed_regions_whole_images_and_words(client: Client, images: Path) -> None:
    ref = ImageRef(str(images), "0.png")
    client.standing.add("region", RegionRef(ref, 0))
    client.standing.add("image", ref)
    client.standing.add("whole", RegionRef(ref))  # as a hit among whole images is
    client.standing.add("words", text="red", max_false_match=1.0)
    kinds = [(one.query.kind, one.query.image, one.query.text) for one in client.standing.list()]
    whole = ("images", str(ref), None)
    assert kinds == [("regions", str(ref), None), whole, whole, ("words", None, "red")]
    assert [dict(one.query.prompt) for one in client.standing.list()] == [
        {"kind": "region", "region": 0},
        {"kind": "image"},
        {"kind": "image"},
        {"kind": "words", "text": "red"},
    ]
    draw(images / "new.png", red=30)
    client.index(images)
    found = fetched(client)
    assert found.keys() == {"region", "image", "whole", "words"}
    assert all(keys == ["new.png"] for keys in found.values())


def test_a_rate_may_be_that_of_equal_codes_and_no_lower(client: Client, images: Path) -> None:
    nearest = client.query(images / "0.png", RED, limit=1).hits[0]
    assert nearest.distance_bits == 0
    assert nearest.false_match is not None
    with pytest.raises(UsageError, match="take more than that"):
        client.standing.add("none", images / "0.png", RED, max_false_match=0.999 * nearest.false_match)
    client.standing.add("equal", images / "0.png", RED, max_false_match=nearest.false_match)
    (images / "new.png").write_bytes((images / "0.png").read_bytes())
    client.index(images)
    assert fetched(client) == {"equal": ["new.png"]}


def test_a_filter_holds_for_what_is_new(client: Client, images: Path) -> None:
    client.standing.add("here", images / "0.png", RED, filter=Filter(bucket=str(images), key_prefix="in"))
    client.standing.add("there", images / "0.png", RED, filter=Filter(bucket=str(images), key_prefix="out"))
    draw(images / "inside.png")
    client.index(images)
    assert fetched(client) == {"here": ["inside.png"]}


def test_one_query_that_cannot_be_asked_stops_no_other(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    memory = StandingMemory(client._parts.connection.indexes)
    [query] = memory.queries()
    bad = replace(query, id="b" * 16, name="bad", filter=Filter(expression="nothing ="))
    lost, torn = replace(query, id="c" * 16, name="lost"), replace(query, id="d" * 16, name="torn")
    for one in (bad, lost, torn):
        memory.keep_query(one)
    memory.keep(bad, memory.kept(query))
    whole = memory.kept(query).to_bytes()
    draw(images / "new.png")
    client.index(images)
    for damaged in (whole[: len(whole) // 2], whole[:400] + b"?" + whole[401:], whole.replace(b"PK\1\2", b"PK\1\3")):
        memory.indexes.remember(f"standing-{torn.id}", damaged)
        found = client.standing.fetch()
        assert [one.query.name for one in found.matches] == ["red"]
        assert found.failed.keys() == {"bad", "lost", "torn"}
        assert all("made of cannot be read" in found.failed[name] for name in ("lost", "torn"))


def test_another_hash_layer_changes_nothing(client: Client, images: Path, tmp_path: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    client.standing.add("blue", images / "0.png", (50, 20))
    before = {one.query.id for one in client.standing.list()}
    forget_noise(client)
    client.hash_layers.apply(layer_file(tmp_path / "other.safetensors", seed=9, bits=256), encode=True)
    add_noise(client)
    assert fetched(client) == {}, "no image is new"
    draw(images / "new.png")
    client.index(images)
    assert fetched(client) == {"red": ["new.png"], "blue": ["new.png"]}
    assert {one.query.id for one in client.standing.list()} == before


@pytest.mark.usefixtures("advancing")
def test_other_models_see_the_picture_again_and_take_no_image_for_new(
    client: Client, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(client._parts.connection.indexes, overlap_s=0) as other:  # type: ignore[arg-type]
        other.standing.add("red", images / "0.png", RED)
        other.standing.add("image", images / "0.png")
        other.standing.add("words", text="red", max_false_match=1.0)
        assert fetched(other) == {}
        forget_noise(client)
        memory = StandingMemory(other._parts.connection.indexes)
        lost = replace(memory.queries()[0], id="c" * 16, name="lost")
        memory.keep_query(lost)
        other._parts.connection.settings.ingest.regions = 1
        stages = list[str]()
        assert other.models.apply("pico", progress=lambda one: stages.append(one.stage)).encoded == 3
        assert stages.count(LOOKING) == 4, "each query may take a while"
        assert "'lost' cannot be asked with the new models" in caplog.text
        memory.forget(lost)
        add_noise(other)
        (images / "0.png").unlink()  # the picture is kept
        assert all(len(memory.kept(one).features) == 2 for one in memory.queries()), "made before the switch"
        assert fetched(other) == {}, "no image is new"
        draw(images / "new.png")
        other.index(images)
        assert fetched(other) == {"red": ["new.png"], "image": ["new.png"], "words": ["new.png"]}


def test_a_look_opens_no_models(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    with opened(client._parts.connection.indexes) as later:  # type: ignore[arg-type]
        monkeypatch.setattr(Connection, "open_to_ask", lambda _: pytest.fail("models are opened"))
        assert fetched(later) == {"red": ["new.png"]}


def test_features_that_nobody_made_are_made_at_the_next_look(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    memory = StandingMemory(client._parts.connection.indexes)
    [query] = memory.queries()
    memory.keep(query, replace(memory.kept(query), features={}))
    draw(images / "new.png")
    client.index(images)
    with opened(client._parts.connection.indexes) as later:  # type: ignore[arg-type]
        assert fetched(later) == {"red": ["new.png"]}
    assert memory.kept(query).features.keys() == {client.manifest.feature_fingerprint}


def test_many_matches_come_in_stretches_of_time(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client.standing.add("red", images / "0.png", RED)
    for number in range(7):
        draw(images / f"new-{number}.png")
        client.index(images)
    in_stretches(monkeypatch, 2)
    assert fetched(client) == {"red": [f"new-{number}.png" for number in range(7)]}


def test_more_than_are_fetched_at_once_come_with_the_next_look(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_stretches(monkeypatch, 2)
    monkeypatch.setattr("searchanything.client.standing_fetching.MOST_FETCHED", 3)
    client.standing.add("red", images / "0.png", RED)
    for number in range(7):
        draw(images / f"new-{number}.png")
        client.index(images)
    rounds = [fetched(client).get("red", []) for _ in range(5)]
    assert sorted(key for keys in rounds for key in keys) == [f"new-{number}.png" for number in range(7)]
    assert all(len(keys) < 7 for keys in rounds)
    assert rounds[-1] == []


def test_names_are_taken_and_given_back(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    with pytest.raises(UsageError, match="remove it first"):
        client.standing.add("red", images / "0.png", RED)
    client.standing.remove("red")
    with pytest.raises(UsageError, match="there is none"):
        client.standing.remove("red")
    assert client.standing.list() == []
    store: Any = client._parts.connection.indexes
    assert not [name for name, kept in store._notes.items() if name.startswith("standing-") and kept], "nothing is left"
    client.standing.add("red", images / "0.png", RED)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("", {}, "letters that can be seen"),
        ("a\nb", {}, "letters that can be seen"),
        ("x" * 101, {}, "letters that can be seen"),
        (7, {}, "expected a name"),
        ("q", {"webhook": "ftp://host/"}, "http"),
        ("q", {"webhook": "https://user:pass@host/"}, "without user and password"),
        ("q", {"webhook": "https:///path"}, "http"),
        ("q", {"webhook": "http://host/ä"}, "ASCII"),
        ("q", {"max_false_match": None}, "needs a rate"),
        ("q", {"max_false_match": 0.0}, "above 0"),
        ("q", {"max_false_match": 1e-300}, "take more than that"),
        ("q", {"filter": Filter(indexed_at_ms=(1, None))}, "from now on"),
        ("q", {"filter": "bucket"}, "filter"),
        ("q", {"text": "red"}, "as the prompt"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    client: Client, images: Path, name: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        client.standing.add(name, images / "0.png", RED, **changes)
    assert client.standing.list() == []


def test_a_prompt_that_selects_nothing_several_regions_and_an_index_without_words(client: Client, images: Path) -> None:
    ref = ImageRef(str(images), "0.png")
    with pytest.raises(UsageError, match="one query for each"):
        client.standing.add("q", [RegionRef(ref, 0), RegionRef(ref, 1)])
    with pytest.raises(PromptError, match="says by itself"):
        client.standing.add("q", RegionRef(ref, 0), RED)
    with pytest.raises(PromptError, match="selects nothing"):
        client.standing.add("q", images / "0.png", (63.0, 47.0))
    with opened(MemoryIndexStore()) as few:
        few.index(images)
        with pytest.raises(UsageError, match="at least 200 regions"):
            few.standing.add("q", images / "0.png", RED)
    with opened(MemoryIndexStore()) as plain:
        plain._parts.connection.settings.ingest.words = False
        plain.index(images)
        with pytest.raises(WordsMissingError):
            plain.standing.add("q", text="red")


def test_words_wait_for_an_index_that_has_words(client: Client, images: Path) -> None:
    """The index was made anew without them; the queries are those of the store."""
    query, memory = client.standing.add("q", text="red", max_false_match=1.0), client.standing.memory
    with opened(MemoryIndexStore()) as plain:
        plain._parts.connection.settings.ingest.words = False
        plain.index(images)
        plain.standing.memory.keep(query, memory.kept(query))
        plain.standing.memory.keep_query(query)
        assert "searched by words alone" in plain.standing.fetch().failed["q"]


def test_words_that_another_process_has_added_since_are_seen_by_the_next_look(
    client: Client, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "WORDS_LOOK_S", 0.0)
    query, memory = client.standing.add("q", text="red", max_false_match=1.0), client.standing.memory
    settings = Settings(_env_file=None, milvus={"uri": str(tmp_path / "index.db")})
    settings.models.preset = "pico"
    with Client(settings) as waiting, Client(settings) as other:
        waiting.index(images)
        waiting.standing.memory.keep(query, memory.kept(query))
        waiting.standing.memory.keep_query(query)
        assert "searched by words alone" in waiting.standing.fetch().failed["q"]
        other.index(images, add_words=True)
        assert "at least 200 regions" in waiting.standing.fetch().failed["q"], "what still lacks"


# --- webhooks


def test_a_webhook_gets_what_is_new_once(client: Client, images: Path, hook: tuple[Hook, WebServer, str]) -> None:
    _, server, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    assert client.standing.deliver().sent == {}
    draw(images / "new.png")
    client.index(images)
    assert fetched(client) == {}, "it is sent, not fetched"
    assert client.standing.deliver().sent == {"red": 1}
    assert client.standing.deliver() == StandingDelivery()
    [asked] = server.asked
    document = json.loads(asked.body)
    assert (asked.method, asked.target) == ("POST", "/hits")
    assert document["type"] == "standing_query.matched"
    assert document["data"]["query"] == "red"
    assert keys_of(asked.body) == ["new.png"]


def test_what_a_webhook_refuses_is_sent_again_after_ever_longer_pauses(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, server, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    one.status = 503
    assert client.standing.deliver().failed == {"red": f"http://{server.endpoint}/…: answered 503: no room"}
    [listed] = client.standing.list()
    assert "503" in listed.error
    assert "503" in client.standing.deliver().failed["red"], "said as long as it lasts"
    assert len(server.asked) == 1, "not before a pause"
    now = forget.now_ms
    pauses = []
    for _ in range(9):
        [listed] = client.standing.list()
        monkeypatch.setattr("searchanything.client.standing_queries.now_ms", lambda at=listed.not_before_ms: at)
        assert client.standing.deliver().failed
        [after] = client.standing.list()
        pauses.append((after.not_before_ms - listed.not_before_ms) // 1000)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    one.status = 204
    monkeypatch.setattr("searchanything.client.standing_queries.now_ms", lambda: now() + 10**8)
    assert client.standing.deliver().sent == {"red": 1}
    assert len({asked.headers["webhook-id"] for asked in server.asked}) == 1, "so that the repetition can be seen"
    assert not client.standing.list()[0].error


def test_a_webhook_that_fails_is_asked_once_a_look_whatever_stands_for_it(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str]
) -> None:
    one, server, address = hook
    for name in ("red", "also red"):
        client.standing.add(name, images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    one.status = 500
    failed = client.standing.deliver().failed
    assert failed.keys() == {"red", "also red"}
    assert len(set(failed.values())) == 1, "for one reason"
    assert len(server.asked) == 1


def test_a_webhook_is_tried_without_matches(client: Client, images: Path, hook: tuple[Hook, WebServer, str]) -> None:
    one, server, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    client.standing.add("fetched", images / "0.png", RED)
    for _ in range(2):
        client.standing.test("red")
    assert len({asked.headers["webhook-id"] for asked in server.asked}) == 2, "else a receiver may drop the second one"
    document = json.loads(server.asked[0].body)
    assert (document["type"], document["data"]["matches"]) == ("standing_query.test", [])
    one.status = 404
    with pytest.raises(WebhookError, match="404"):
        client.standing.test("red")
    for name in ("fetched", "nobody"):
        with pytest.raises(UsageError, match=name):
            client.standing.test(name)


def test_a_redirect_is_a_refusal(client: Client, images: Path) -> None:
    with web_server(lambda _: (302, {"Location": "http://127.0.0.1:9/"}, b"")) as server:
        client.standing.add("red", images / "0.png", RED, webhook=f"http://{server.endpoint}/")
        draw(images / "new.png")
        client.index(images)
        assert "302" in client.standing.deliver().failed["red"]
        assert len(server.asked) == 1


def test_a_run_that_is_killed_repeats_no_message_that_was_noted(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server, address = hook
    monkeypatch.setattr("searchanything.client.standing_delivery.MATCHES_AT_ONCE", 2)
    client.standing.add("red", images / "0.png", RED, webhook=address)
    for number in range(7):
        draw(images / f"{number}-new.png")
    client.index(images)
    sent = 0

    def killed() -> None:
        nonlocal sent
        sent += 1
        if sent == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.standing.deliver(progress=killed)
    assert client.standing.deliver().sent == {"red": 3}
    keys = [key for asked in server.asked for key in keys_of(asked.body)]
    assert sorted(keys) == [f"{number}-new.png" for number in range(7)]


def test_one_of_two_processes_sends(client: Client, images: Path, hook: tuple[Hook, WebServer, str]) -> None:
    _, server, address = hook
    client.standing.add("red", images / "0.png", RED, webhook=address)
    draw(images / "new.png")
    client.index(images)
    inner = []

    def meanwhile() -> None:
        inner.append(client.standing.deliver().sent)

    assert client.standing.deliver(progress=meanwhile).sent == {"red": 1}
    assert inner == [{}]
    assert len(server.asked) == 1


def test_where_nothing_matches_nothing_is_written(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.standing.add("red", images / "0.png", RED, webhook=hook[2])
    written: list[str] = []
    remember = MemoryIndexStore.remember

    def noted(self: MemoryIndexStore, name: str, data: bytes) -> None:
        written.append(name)
        remember(self, name, data)

    monkeypatch.setattr(MemoryIndexStore, "remember", noted)
    Image.fromarray(drawn(48, 64, green=(4, 4, 30, 40))).save(images / "green.png")
    client.index(images)
    written.clear()
    client.standing.deliver()
    assert written == []
    later = forget.now_ms() + 1_000_000
    monkeypatch.setattr("searchanything.client.standing_queries.now_ms", lambda: later)
    client.standing.deliver()
    assert DELIVERED in written, "now and then, so that looks back stay short"
    assert client.standing.list()[0].looked_until_ms == later


def test_many_queries_are_one_search_where_nothing_matches(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        client.standing.add(f"q{number}", images / "0.png", RED)
    monkeypatch.setattr(standing_looks, "overlap_ms_of", lambda _: 0)
    searches = []
    index_class: Any = type(live_of(client))
    search = index_class.search

    def counted(self: Any, codes: Any, **options: Any) -> Any:
        searches.append(len(codes))
        return search(self, codes, **options)

    monkeypatch.setattr(index_class, "search", counted)
    monkeypatch.setattr(StandingQueries, "_look", _later(StandingQueries._look))
    assert fetched(client) == {}
    assert sum(searches) == 20
    assert len(searches) <= 20


def _later(look: Any) -> Any:
    def made(self: Any, queries: Any) -> Any:
        one = look(self, queries)
        return replace(one, now_ms=one.now_ms + 10_000)

    return made


def test_a_backup_takes_them_along(
    client: Client, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    assert fetched(client) == {"red": ["new.png"]}
    draw(images / "newer.png", red=31)
    client.index(images)
    client.backup(tmp_path / "b.tar")
    with opened(MemoryIndexStore()) as other:
        other.restore(tmp_path / "b.tar")
        assert other.standing.list() == client.standing.list()
        assert fetched(other) == {"red": ["newer.png"]}, "as it stood"
    with opened(MemoryIndexStore()) as other:
        [query] = StandingMemory(client._parts.connection.indexes).queries()
        StandingMemory(other._parts.connection.indexes).keep_query(replace(query, name="own"))
        other.restore(tmp_path / "b.tar")
        assert [one.query.name for one in other.standing.list()] == ["own"]
        assert "left out" in caplog.text


@pytest.mark.parametrize("written", range(1, 7))
def test_a_restore_that_was_killed_at_any_note_is_ended_by_the_next(
    client: Client, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    for name, point in (("red", RED), ("blue", (50.0, 20.0))):
        client.standing.add(name, images / "0.png", point)
    client.backup(tmp_path / "b.tar")
    remember, left = MemoryIndexStore.remember, written

    def killed(self: MemoryIndexStore, note: str, data: bytes) -> None:
        nonlocal left
        left -= note.startswith(("standing", "restoring"))
        if not left:
            raise KeyboardInterrupt
        remember(self, note, data)

    with opened(MemoryIndexStore()) as other:
        with monkeypatch.context() as patched:
            patched.setattr(MemoryIndexStore, "remember", killed)
            with suppress(KeyboardInterrupt):
                other.restore(tmp_path / "b.tar")
        assert left == 0, "there are as many notes"
        noted = other._parts.connection.indexes
        noted.remember("hash-apply", b"")  # whose holder is seen to be gone on its own machine
        other.restore(tmp_path / "b.tar")
        assert other.standing.list() == client.standing.list()
        memory = StandingMemory(other._parts.connection.indexes)
        assert all(memory.kept(one).features for one in memory.queries())


class Noting(MemoryIndexStore):
    """An index store that says in which order notes were kept."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def remember(self, name: str, data: bytes) -> None:
        self.kept.append(name)
        super().remember(name, data)


@pytest.mark.parametrize("kind", ["file", "bucket"])
def test_a_restored_query_comes_after_what_it_was_made_of(
    client: Client, images: Path, tmp_path: Path, kind: str
) -> None:
    """Killed in between, a restore leaves no query without its features, nor one that seems never to have looked."""
    for name, point in (("red", RED), ("blue", (50.0, 20.0))):
        client.standing.add(name, images / "0.png", point)
    draw(images / "new.png")
    client.index(images)
    assert fetched(client)
    indexes, other = client._parts.connection.indexes, Noting()
    place = TarPlace(tmp_path / "b.tar") if kind == "file" else ObjectsPlace(FolderFiles(tmp_path / "bucket"))
    notes = StandingMemory(indexes).notes()
    back_up(indexes, place, notes)
    restore(other, place)
    kept = [name for name in other.kept if name.startswith("standing")]
    assert sorted(kept) == sorted(notes)
    assert {FETCHED} < set(kept[:-2])
    assert all(name.startswith("standing-query-") for name in kept[-2:])


def test_lists_that_cannot_be_read_are_said_to_be_so(client: Client) -> None:
    client._parts.connection.indexes.remember("standing-query-1", b"{")
    with pytest.raises(RegionIndexError, match="cannot be read"):
        client.standing.list()
    client._parts.connection.indexes.remember("standing-query-1", json.dumps({"format": 9, "query": {}}).encode())
    with pytest.raises(RegionIndexError, match="update it"):
        client.standing.list()


@pytest.mark.parametrize("note", [b"{", b"[]", b'{"x": 1}', b'{"x": {"until_ms": 1, "further": 2}}', b'{"x": {}}'])
def test_looks_that_cannot_be_read_are_made_anew(client: Client, images: Path, note: bytes) -> None:
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    client._parts.connection.indexes.remember(FETCHED, note)
    assert [one.error for one in client.standing.list()] == [""]
    assert fetched(client) == {"red": ["new.png"]}
    assert fetched(client) == {}


# --- the command line


def test_the_verbs(
    client: Client, images: Path, hook: tuple[Hook, WebServer, str], capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str, code: int = 0) -> Any:
        assert run([*arguments, "--format", "json"], connect=lambda _uri, _preset: opened(store)) == code
        return json.loads(capsys.readouterr().out)

    store: Any = client._parts.connection.indexes
    added = said("standing", "add", "red", str(images / "0.png"), "--point", "10,20")
    assert (added["name"], added["kind"], added["webhook"]) == ("red", "regions", None)
    assert said("standing", "add", "red", str(images / "0.png"), code=2)["error"]["type"] == "UsageError"
    draw(images / "new.png")
    client.index(images)
    found = said("standing", "check")
    assert [hit["key"] for hit in found["matches"][0]["matches"]] == ["new.png"]
    assert said("standing", "check") == {"matches": [], "failed": {}, "complete": True, "sent": {}}
    assert [one["name"] for one in said("standing", "list")["queries"]] == ["red"]
    said("standing", "add", "hooked", str(images / "0.png"), "--webhook", "http://127.0.0.1:9/secret-path")
    assert "secret-path" not in json.dumps(said("standing", "list"))
    draw(images / "newer.png", red=20)
    client.index(images)
    assert said("standing", "check", code=1)["failed"].keys() == {"hooked"}
    assert said("standing", "remove", "red") == {"removed": "red"}
    assert said("standing", "test", "hooked", code=1)["error"]["type"] == "WebhookError"
    said("standing", "add", "answering", str(images / "0.png"), "--webhook", hook[2])
    assert said("standing", "test", "answering") == {"sent": "answering"}
    assert keys_of(hook[1].asked[0].body) == []


def test_the_verbs_in_words(client: Client, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        assert run(["standing", *arguments], connect=lambda _uri, _preset: opened(store)) == code
        return capsys.readouterr().out

    store: Any = client._parts.connection.indexes
    assert said("list") == "no standing query: searchanything standing add NAME IMAGE\n"
    added = said("add", "red", str(images / "0.png"), "--point", "10,20")
    assert added == "red stands: `searchanything standing check` prints what matches from now on\n"
    assert said("check") == "nothing new\n"
    draw(images / "new.png")
    client.index(images)
    assert re.fullmatch(r"red: \S*new\.png#\d at \d+ bits\n", said("check"))
    hooked = said(
        "add", "hooked", "--text", "red thing", "--max-false-match", "0.1", "--webhook", "http://127.0.0.1:9/a"
    )
    assert hooked == "hooked stands: `watch` and `standing check` send what matches from now on\n"
    draw(images / "newer.png", red=30)
    client.index(images)
    lines = said("check", code=1).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["red", "hooked"]
    assert lines[1].startswith("hooked: failed: ")
    head, red, words = said("list").splitlines()
    assert head.split() == ["name", "asks", "false", "match", "webhook", "looked", "until"]
    assert re.fullmatch(r"red +point of \S+0\.png +0\.0001 +[-0-9]{10} [:0-9]{8} *", red)
    assert re.fullmatch(
        r"hooked +red thing +0\.1 +http://127\.0\.0\.1:9/… +[-0-9]{10} [:0-9]{8} +http://.*refused", words
    )
    client.standing.add("of a key", images / "0.png", added_by="shop")
    assert {"key", "shop"} <= set(said("list").split())
    assert said("remove", "red") == "red is gone\n"


def test_a_check_says_that_there_may_be_more(
    client: Client, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def checked(*arguments: str) -> str:
        assert run(["standing", "check", *arguments], connect=lambda _uri, _preset: opened(store)) == 0
        return capsys.readouterr().out

    store: Any = client._parts.connection.indexes
    in_stretches(monkeypatch, 2)
    monkeypatch.setattr("searchanything.client.standing_fetching.MOST_FETCHED", 2)
    client.standing.add("red", images / "0.png", RED)
    for number in range(5):
        draw(images / f"new-{number}.png", red=30 + number % 3)
        client.index(images)
    printed = list[str]()
    while (lines := checked().splitlines())[-1] == "there may be more: look once more":
        assert lines[:-1], "each look brings it further"
        printed += lines[:-1]
    assert 0 < len(printed) < 5, "the last look prints what is left"
    assert len({*printed, *lines}) == 5
    assert json.loads(checked("--format", "json"))["complete"]


def test_features_are_of_the_region_that_was_selected(client: Client, images: Path) -> None:
    """The picture and its mask, encoded again, are near to what was asked first."""
    query = client.standing.add("red", images / "0.png", RED)
    memory = StandingMemory(client._parts.connection.indexes)
    kept = memory.kept(query)
    [first] = kept.features.values()
    memory.keep(query, replace(kept, features={}))
    again = client.standing.features.make(query, "m", lambda: client._parts.connection.open_to_ask()[1])
    assert np.allclose(first.image, again.image, atol=0.1)
    assert np.allclose(first.mask, again.mask, atol=0.1)
