"""Standing queries through views of some places, and fetching in two steps: what a server does for its keys."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fakes.hash_layers import layer_file, live_of
from fakes.http_servers import WebServer
from fakes.standing import RED, Hook, add_noise, draw, fetched, in_stretches, opened
from PIL import Image

from searchanything.answers.standing_answers import Taken
from searchanything.client.client import Client
from searchanything.client.standing_features import picture_of
from searchanything.client.standing_memory import FETCHED, StandingMemory
from searchanything.core.errors import ObjectNotFoundError, UsageError
from searchanything.core.types import Filter, ImageRef
from searchanything.stores.memory import MemoryIndexStore

SEEN, HIDDEN = "seen/", "hidden/"


@pytest.fixture
def places(client: Client, images: Path) -> Path:
    """The folder with two places, each with 300 regions that are like nothing and an image with a red thing."""
    for place, seed in ((SEEN, 5), (HIDDEN, 7)):
        add_noise(client, str(images), place, seed=seed)
        (images / place).mkdir()
        draw(images / place / "0.png")
    client.index(images)
    return images


def view(client: Client, images: Path, *prefixes: str) -> Client:
    return client.within([(str(images), prefix) for prefix in prefixes])


def draw_in_both(client: Client, images: Path, name: str = "new.png") -> None:
    for place in (SEEN, HIDDEN):
        draw(images / place / name)
    client.index(images)


def test_a_query_of_a_view_matches_what_the_view_shows(client: Client, places: Path) -> None:
    seen = view(client, places, SEEN)
    seen.standing.add("red", places / "0.png", RED)
    seen.standing.add("wider", places / "0.png", RED, filter=Filter(key_prefix="hidden/"))
    client.standing.add("all", places / "0.png", RED)
    draw_in_both(client, places)
    assert fetched(seen) == {"red": ["seen/new.png"]}
    assert fetched(client) == {"all": ["hidden/new.png", "seen/new.png"]}, "what the view fetched is dealt with"


def test_a_view_asks_of_its_own_places_also_when_a_program_that_sees_all_looks(
    client: Client, places: Path, hook: tuple[Hook, WebServer, str]
) -> None:
    view(client, places, SEEN).standing.add("red", places / "0.png", RED, webhook=hook[2])
    draw_in_both(client, places)
    assert client.standing.deliver().sent == {"red": 1}
    assert b"hidden/" not in hook[1].asked[0].body


def test_another_hash_layer_changes_nothing_for_a_view(client: Client, places: Path, tmp_path: Path) -> None:
    seen = view(client, places, SEEN)
    seen.standing.add("red", places / "0.png", RED)
    made_up = {one for one, _ in live_of(client).iterate_attempts() if not Path(one.bucket, one.key).exists()}
    assert len(made_up) > 500
    live_of(client).delete_images(made_up)
    client.hash_layers.apply(layer_file(tmp_path / "other.safetensors", seed=9, bits=256), encode=True)
    for place, seed in ((SEEN, 5), (HIDDEN, 7)):
        add_noise(client, str(places), place, seed=seed)
    assert fetched(seen) == {}, "no image is new"
    draw_in_both(client, places)
    assert fetched(seen) == {"red": ["seen/new.png"]}


def test_rates_of_a_view_are_those_of_its_regions(client: Client, places: Path, images: Path) -> None:
    with pytest.raises(UsageError, match="at least 200 regions"):
        view(client, images, "seen/0.png").standing.add("red", places / "0.png", RED)


def test_what_a_view_does_not_show_stands_for_nobody_there(client: Client, places: Path) -> None:
    seen, hidden, both = (view(client, places, *some) for some in ((SEEN,), (HIDDEN,), (SEEN, HIDDEN)))
    client.standing.add("all", places / "0.png", RED)
    hidden.standing.add("red", places / "0.png", RED)
    assert [one.query.name for one in seen.standing.list()] == []
    assert [one.query.name for one in both.standing.list()] == ["red"], "who sees more sees what others added for less"
    both.standing.add("both", places / "0.png", RED)
    assert [one.query.name for one in hidden.standing.list()] == ["red"], "nobody sees what is asked of more"
    assert [one.query.name for one in view(client, places, "").standing.list()] == ["red", "both"]
    for name in ("all", "red", "both", client.standing.list()[0].query.id):
        for action in (seen.standing.remove, seen.standing.test, seen.standing.picture, seen.standing.fetch):
            with pytest.raises(UsageError, match="expected the name of a standing query \\(there is none\\)"):
                action(name)
    draw_in_both(client, places)
    assert fetched(seen) == {}
    [other] = client.standing.fetch("all").taken.items()
    seen.standing.take(dict([other]))
    assert fetched(client)["all"], "whoever does not see a query cannot take its matches"


def test_one_name_in_two_places_needs_an_id(client: Client, places: Path) -> None:
    seen, hidden = view(client, places, SEEN), view(client, places, HIDDEN)
    mine, other = (one.standing.add("red", places / "0.png", RED) for one in (seen, hidden))
    with pytest.raises(UsageError, match="there is a standing query 'red'"):
        client.standing.add("red", places / "0.png", RED)
    with pytest.raises(UsageError, match=f"give an id, {mine.id}, {other.id}"):
        client.standing.remove("red")
    client.standing.remove(other.id)
    assert [one.query.id for one in client.standing.list()] == [mine.id]


def test_of_two_queries_of_one_name_each_says_what_is_wrong_with_it(
    client: Client, places: Path, hook: tuple[Hook, WebServer, str]
) -> None:
    seen, hidden = view(client, places, SEEN), view(client, places, HIDDEN)
    sent = [one.standing.add("sent", places / "0.png", RED, webhook=hook[2]).id for one in (seen, hidden)]
    kept = [one.standing.add("kept", places / "0.png", RED).id for one in (seen, hidden)]
    live_of(client).delete_images([ImageRef(str(places), f"hidden/{number}.png") for number in range(300)])
    client._parts.asking.judging.backgrounds._drawn.clear()
    draw_in_both(client, places)
    assert client.standing.fetch().failed.keys() == {kept[1]}
    delivery = client.standing.deliver()
    assert delivery.sent == {sent[0]: 1}
    assert delivery.failed.keys() == client.standing.deliver().failed.keys() == {sent[1]}
    assert view(client, places, HIDDEN).standing.fetch().failed.keys() == {"kept"}


def test_a_view_has_no_more_than_its_share(client: Client, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchanything.client.standing_queries.MOST_OF_VIEW", 2)
    seen = view(client, places, SEEN)
    for name in ("a", "b"):
        seen.standing.add(name, places / "0.png", RED)
    with pytest.raises(UsageError, match="there are 2 standing queries"):
        seen.standing.add("c", places / "0.png", RED)
    client.standing.add("c", places / "0.png", RED)
    monkeypatch.setattr("searchanything.client.standing_queries.MOST_QUERIES", 3)
    with pytest.raises(UsageError, match="there are 3 standing queries"):
        view(client, places, HIDDEN).standing.add("d", places / "0.png", RED)


def test_a_view_has_no_more_than_its_share_of_what_all_read(
    client: Client, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = view(client, places, SEEN)
    query = seen.standing.add("a", places / "0.png", RED)
    long = Filter(exclude=[ImageRef(str(places), f"{number}.png") for number in range(100)])
    monkeypatch.setattr("searchanything.client.standing_queries.MOST_LETTERS_OF_VIEW", 5000)
    with pytest.raises(UsageError, match="too large together"):
        seen.standing.add("b", places / "0.png", RED, filter=long)
    assert [one.query for one in client.standing.list()] == [query]
    client.standing.add("b", places / "0.png", RED, filter=long)
    # nor of what is remembered as dealt with, by however many queries and notes
    monkeypatch.setattr("searchanything.client.standing_fetching.MOST_NOTED_OF_PLACES", 3)
    other, now = seen.standing.add("c", places / "0.png", RED), query.created_at_ms
    several = [Taken(now, 0, dict.fromkeys((f"{number:016x}", f"{number + 8:016x}"), now)) for number in range(2)]
    seen.standing.take({query.id: several[0]})
    with pytest.raises(UsageError, match="at most 3 matches"):
        seen.standing.take({other.id: several[1]})
    # where there are too many already, that is no fault of whoever fetches elsewhere
    monkeypatch.setattr("searchanything.client.standing_fetching.MOST_NOTED_OF_PLACES", 1)
    all_of_it = {client.standing.list()[1].query.id: Taken(now, 0, {f"{n:016x}": now for n in range(9)})}
    client.standing.take(all_of_it)
    monkeypatch.setattr("searchanything.client.standing_fetching.MOST_NOTED", 8)
    with pytest.raises(UsageError, match="at most 8 matches of one query"):
        client.standing.take(all_of_it)
    view(client, places, HIDDEN).standing.add("d", places / "0.png", RED)


def test_a_view_neither_sends_nor_asks_with_what_it_does_not_show(client: Client, places: Path) -> None:
    seen = view(client, places, SEEN)
    with pytest.raises(UsageError, match="view of some places"):
        seen.standing.deliver()
    with pytest.raises(ObjectNotFoundError):
        seen.standing.add("red", ImageRef(str(places), "hidden/0.png"), RED)


def test_views_share_the_codes_that_were_made(client: Client, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server makes a view for each request; what a query was made of is a picture, and is read once."""
    view(client, places, SEEN).standing.add("red", places / "0.png", RED)
    assert view(client, places, SEEN).standing.fetch().failed == {}
    monkeypatch.setattr(StandingMemory, "kept", lambda *_: pytest.fail("it was read again"))
    assert view(client, places, SEEN).standing.fetch().failed == {}


def write_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    remember = MemoryIndexStore.remember

    def slowly(store: MemoryIndexStore, name: str, data: bytes) -> None:
        time.sleep(0.02)
        remember(store, name, data)

    monkeypatch.setattr(MemoryIndexStore, "remember", slowly)


@pytest.mark.usefixtures("images")
def test_what_processes_keep_at_once_is_all_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reads before another has written, and writes after it: both were said to be kept."""
    write_slowly(monkeypatch)
    with ExitStack() as stack, ThreadPoolExecutor(4) as threads:
        others = [stack.enter_context(opened(client._parts.connection.indexes)) for _ in range(4)]  # type: ignore[arg-type]
        names = [f"{place} {number}" for number in range(4) for place in range(4)]
        added = threads.map(
            lambda name: others[int(name[0])].standing.add(name, text="red", max_false_match=1.0).id, names
        )
        assert sorted(added) == sorted(one.query.id for one in client.standing.list())
        gone = threads.map(lambda name: others[int(name[0])].standing.remove(name), names[:8])
        assert list(gone) == [None] * 8
        assert {one.query.name for one in client.standing.list()} == set(names[8:])


def test_requests_at_once_all_come_through(client: Client, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's threads share the memory; of two that take the lease at the same moment one would give way."""
    seen = view(client, places, SEEN)
    query = seen.standing.add("a", places / "0.png", RED)
    write_slowly(monkeypatch)
    views = [view(client, places, SEEN) for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        taken = {query.id: Taken(query.created_at_ms, 0, {})}
        added = [
            threads.submit(one.standing.add, str(n), text="red", max_false_match=1.0) for n, one in enumerate(views)
        ]
        noted = [threads.submit(one.standing.take, taken) for one in views]
        assert len({one.result().id for one in added}) == 6
        assert [one.result() for one in noted] == [None] * 6
    assert len(seen.standing.list()) == 7


# --- in two steps


def test_what_is_fetched_comes_again_until_it_is_taken(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    client.standing.add("again", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    first, second = client.standing.fetch(), client.standing.fetch()
    assert first.matches == second.matches
    assert len(first.matches) == 2
    client.standing.take(first.taken)
    assert fetched(client) == {}


def test_one_query_is_fetched_by_its_name_or_id(client: Client, images: Path) -> None:
    red = client.standing.add("red", images / "0.png", RED)
    client.standing.add("other", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    with client.standing.new_matches(red.id) as found:
        assert [one.query.name for one in found.matches] == ["red"]
    assert fetched(client) == {"other": ["new.png"]}


def test_a_query_with_a_webhook_is_not_fetched(client: Client, images: Path, hook: tuple[Hook, WebServer, str]) -> None:
    client.standing.add("red", images / "0.png", RED, webhook=hook[2])
    with pytest.raises(UsageError, match="has a webhook: its matches are sent"):
        client.standing.fetch("red")


@pytest.mark.usefixtures("advancing")
@pytest.mark.parametrize("most", [4, 5])
def test_some_at_a_time_are_all_in_the_end(client: Client, images: Path, most: int) -> None:
    for name in ("one", "two", "three"):
        client.standing.add(name, images / "0.png", RED)
    for number in range(5):
        draw(images / f"new-{number}.png", red=30 + number % 3)
        client.index(images)
    got, looks = dict[str, list[str]](), 0
    while True:
        found = client.standing.fetch(most=most)
        for one in found.matches:
            got.setdefault(one.query.name, []).extend(match.hit.image.key for match in one.matches)
        client.standing.take(found.taken)
        looks += 1
        if found.complete or looks == 9:
            break
    everything = sorted(f"new-{number}.png" for number in range(5))
    assert {name: sorted(keys) for name, keys in got.items()} == dict.fromkeys(("one", "two", "three"), everything)
    assert looks == 3


def test_what_is_taken_leaves_what_came_meanwhile(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    draw(images / "new.png")
    client.index(images)
    found = client.standing.fetch()
    draw(images / "newer.png", red=31)
    client.index(images)
    client.standing.take(found.taken)
    assert fetched(client) == {"red": ["newer.png"]}


def test_nobody_takes_what_is_not_there_yet(client: Client, images: Path) -> None:
    """A note from a client may say anything."""
    query = client.standing.add("red", images / "0.png", RED)
    far = 2**62
    client.standing.take({query.id: Taken(far, far, {"0" * 16: far}), "f" * 16: Taken(far, far, {})})
    kept = StandingMemory(client._parts.connection.indexes).looked(FETCHED)
    assert kept.keys() == {query.id}
    assert max(kept[query.id].until_ms, kept[query.id].new_from_ms) < far
    assert all(first < far for first in kept[query.id].seen.values())


def test_what_is_noted_does_not_grow_for_ever(client: Client, images: Path) -> None:
    """What no look back finds again is forgotten, and so are queries that were removed."""
    memory = StandingMemory(client._parts.connection.indexes)
    gone, red = (client.standing.add(name, images / "0.png", RED) for name in ("gone", "red"))
    at = red.created_at_ms
    client.standing.take({gone.id: Taken(at, 0, {"0" * 16: at}), red.id: Taken(at, 0, {"0" * 16: at - 2})})
    client.standing.remove("gone")
    client.standing.take({red.id: Taken(at, at - 1, {"1" * 16: at})})
    noted = memory.looked(FETCHED)
    assert noted.keys() == {red.id}
    assert (noted[red.id].new_from_ms, noted[red.id].seen) == (at - 1, {"1" * 16: at})


def test_the_picture_of_a_region_is_the_part_that_holds_it(client: Client, images: Path) -> None:
    client.standing.add("red", images / "0.png", RED)
    client.standing.add("whole", images / "0.png")
    client.standing.add("words", text="red", max_false_match=1.0)
    red, whole = client.standing.picture("red"), client.standing.picture("whole")
    with pytest.raises(UsageError, match="no picture of it"):
        client.standing.picture("words")
    assert whole.shape == (48, 64, 3)
    height, width = red.shape[:2]
    assert (height, width) == (45, 37), "rows 4 to 39 and columns 4 to 31, with a tenth of 35 and one around them"
    assert np.mean(red[5:-5, 5:-5, 0]) > 150
    client.standing.add("blue", images / "0.png", (50, 20))
    blue = client.standing.picture("blue")
    assert blue.shape[:2] == (40, 28), "rows 8 to 39 and columns 40 to 59, with a tenth of 31 and one around them"
    assert np.mean(blue[4:-4, 4:-4, 2]) > 150


def test_a_large_picture_is_kept_smaller_and_a_small_one_as_it_is() -> None:
    for shape, kept in [((20, 2000, 3), (13, 1280, 3)), ((2000, 20, 3), (1280, 13, 3)), ((5, 7, 3), (5, 7, 3))]:
        file = picture_of(np.full(shape, 90, dtype=np.uint8))
        assert np.asarray(Image.open(BytesIO(file))).shape == kept
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    kept_noise = np.asarray(Image.open(BytesIO(picture_of(noise)))).astype(int)
    assert np.abs(kept_noise - noise).max() < 25, "in fine detail and in colour: other models will look at it"


def test_where_much_is_new_it_comes_in_parts_and_each_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are stretches of time."""
    in_stretches(monkeypatch, 2)
    with opened(MemoryIndexStore(), overlap_s=0) as client:
        client.index(images)
        add_noise(client)
        client.standing.add("red", images / "0.png", RED)
        client.standing.add("other", images / "0.png", RED)
        for number in range(6):
            draw(images / f"new-{number}.png", red=30 + number % 3)
            client.index(images)
        got, parts = [], 0
        while True:
            found = client.standing.fetch(most=1)
            got += [(one.query.name, match.hit.image.key) for one in found.matches for match in one.matches]
            client.standing.take(found.taken)
            parts += 1
            if found.complete:
                break
            assert found.matches, "each part brings it further"
        assert sorted(got) == sorted((name, f"new-{n}.png") for name in ("red", "other") for n in range(6))
        assert parts > 4


def test_much_that_comes_again_is_noted_in_parts(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted and uploaded again, it is noted with another time; a server takes so many notes at once."""
    names = [f"new-{number}.png" for number in range(6)]

    def upload() -> None:
        for name in names:
            draw(images / name)
            client.index(images)

    client.standing.add("red", images / "0.png", RED)
    upload()
    assert fetched(client) == {"red": names}
    for name in names:
        (images / name).unlink()
    client.index(images, prune=True)
    upload()
    in_stretches(monkeypatch, 2)
    monkeypatch.setattr("searchanything.client.standing_fetching.MOST_FETCHED", 2)
    noted = dict[str, int]()
    for _ in range(10):
        found = client.standing.fetch()
        assert found.matches == ()
        for one in found.taken.values():
            assert len(one.seen) <= 3
            noted |= one.seen
        client.standing.take(found.taken)
        if found.complete:
            break
    assert found.complete
    assert noted, "the last ones with the next match, or a while later"


def test_more_than_is_given_at_once_is_not_all(client: Client, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_stretches(monkeypatch, 2)
    monkeypatch.setattr("searchanything.client.standing_fetching.MOST_FETCHED", 2)
    red = client.standing.add("red", images / "0.png", RED)
    client.standing.add("nowhere", images / "0.png", RED, filter=Filter(bucket="nowhere"))
    for number in range(5):
        draw(images / f"new-{number}.png", red=30 + number % 3)
        client.index(images)
    found = client.standing.fetch()
    assert not found.complete
    assert found.taken[red.id].new_from_ms == red.new_from_ms, "what is to come may be as old"
    with monkeypatch.context() as patched:
        patched.setattr("searchanything.client.standing_fetching.MOST_FETCHED", 100)
        whole = client.standing.fetch()
    assert whole.complete
    until_ms, new_from_ms, _ = whole.taken[red.id]
    assert new_from_ms == until_ms - 1000 * client._parts.connection.settings.standing.overlap_s > red.new_from_ms
    assert sum(len(fetched(client).get("red", [])) for _ in range(5)) == 5
    assert client.standing.fetch().complete


@pytest.mark.usefixtures("advancing")
def test_how_far_a_look_came_is_noted_now_and_then_although_nothing_is_new(client: Client, images: Path) -> None:
    query = client.standing.add("red", images / "0.png", RED)
    found = client.standing.fetch()
    assert found.matches == ()
    client.standing.take(found.taken)
    [listed] = client.standing.list()
    assert listed.looked_until_ms == found.taken[query.id].until_ms >= query.created_at_ms
    assert StandingMemory(client._parts.connection.indexes).looked(FETCHED).keys() == {query.id}
