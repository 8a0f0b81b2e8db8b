"""`max_false_match` bounds the ranking, before pages are made of it, and refined answers by every way to ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fakes.serving import Served, crowd, listening
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from searchanything.answers.results import SearchResults
from searchanything.cli.app import run
from searchanything.client.client import Client
from searchanything.client.remote import RemoteClient
from searchanything.core.types import ImageRef, RegionRef
from searchanything.search.calibration import Background, false_match_rates

POINT = (60, 20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    """Five regions among 400 that are like nothing."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        served = Served.make(tmp_path_factory.mktemp("cuts"), monkeypatch)
        crowd(served, regions=400)
        yield served


def image_of(served: Served) -> ImageRef:
    return ImageRef(served.bucket, "a/two.png")


def rate_of(found: SearchResults, place: int) -> float:
    """The rate of the hit at a place by distance."""
    return sorted(hit.false_match or 0.0 for hit in found)[place]


@given(
    place=st.integers(0, 199),
    share=st.sampled_from([1.0, 0.999]),
    limit=st.integers(1, 30),
    offset=st.integers(0, 210),
    grouped=st.booleans(),
    stored=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_are_made_of_what_passes(
    served: Served, place: int, share: float, limit: int, offset: int, grouped: bool, stored: bool
) -> None:
    image = image_of(served)
    asked: tuple[Any, ...] = ([RegionRef(image, 0), RegionRef(image, 1)],) if stored else (image, POINT)
    everything = served.client.query(*asked, limit=200)
    most = rate_of(everything, place) * share
    passing = [hit for hit in everything if (hit.false_match or 0) <= most]
    if grouped:
        passing = list({hit.image: hit for hit in reversed(passing)}.values())
        passing.sort(key=everything.index)
    cut = served.client.query(*asked, limit=limit, offset=offset, group_by_image=grouped, max_false_match=most)
    assert list(cut) == passing[offset : offset + limit]
    nearest = min(everything, key=lambda hit: hit.distance_bits)
    assert cut.to_dict()["matching"]["nearest_bits"] == nearest.distance_bits
    assert cut.verdict.startswith("no good match") is (not passing)


def test_the_picture_of_a_cut_and_refined_slice(served: Served, address: str) -> None:
    right = RegionRef(ImageRef(served.bucket, "b/green.png"), 7)
    everything = served.client.query(image_of(served), POINT, limit=50).refine(right=[right])
    rates = sorted({hit.false_match for hit in everything})
    with RemoteClient(address) as remote:
        pictures = [
            client.query(image_of(served), POINT, limit=50, max_false_match=most).refine(right=[right])[:6]._repr_png_()
            for client, most in ((remote, rates[2]), (served.client, rates[2]), (served.client, None))
        ]
    assert pictures[0] == pictures[1] != pictures[2]


def test_rates_rise_with_the_distance() -> None:
    rng = np.random.default_rng(8)
    for centre in (0.1, 0.4, 0.5):
        rates = false_match_rates(np.bincount(rng.binomial(256, centre, 400), minlength=257))
        assert (np.diff(rates) >= 0).all()
    assert Background(rng.integers(0, 256, (10, 32), dtype=np.uint8), 10).rates(np.zeros(32, np.uint8)) is None


class Kept(Client):
    """The same client at each call."""

    def __init__(self, client: Client) -> None:
        self.__dict__ = client.__dict__


Asked = Callable[[Served, float | None, RegionRef], dict[str, Any]]


def python(served: Served, most: float | None, right: RegionRef) -> dict[str, Any]:
    found = served.client.query(image_of(served), POINT, limit=50, max_false_match=most)
    return found.refine(right=[right]).to_dict()


def rest(served: Served, most: float | None, right: RegionRef) -> dict[str, Any]:
    prompt = {"kind": "points", "foreground": [list(POINT)]}
    mark = served.name(right.image.key, region=right.region)
    question = {"image": served.name("a/two.png"), "prompt": prompt, "limit": 50, "max_false_match": most}
    return served.refine(**question, right=[mark])


@pytest.fixture(scope="module")
def address(served: Served) -> Iterator[str]:
    with listening(served) as url:
        yield url


@pytest.fixture(scope="module")
def remote(address: str) -> Iterator[Asked]:
    with RemoteClient(address) as client:

        def ask(served: Served, most: float | None, right: RegionRef) -> dict[str, Any]:
            found = client.query(image_of(served), POINT, limit=50, max_false_match=most)
            return found.refine(right=[right]).to_dict()

        yield ask


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Asked:
    def ask(served: Served, most: float | None, right: RegionRef) -> dict[str, Any]:
        mark = f"{right.image.bucket}/{right.image.key}#{right.region}"
        cut = [] if most is None else ["--max-false-match", repr(most)]
        words = ["query", str(served.folder / "a/two.png"), "--point", ",".join(map(str, POINT)), "--limit", "50"]
        words += [*cut, "--right", mark, "--format", "json"]
        assert run(words, connect=lambda _uri, _preset: Kept(served.client)) == 0
        return json.loads(capsys.readouterr().out)

    return ask


@pytest.mark.parametrize("name", ["python", "rest", "typed", "remote"])
def test_a_refined_answer_is_cut_as_well(served: Served, typed: Asked, remote: Asked, name: str) -> None:
    ask = {"python": python, "remote": remote, "rest": rest, "typed": typed}[name]
    right = RegionRef(ImageRef(served.bucket, "b/green.png"), 7)
    everything = ask(served, None, right)["hits"]
    rates = sorted({hit["false_match"] for hit in everything})  # rounded
    most = (rates[2] * rates[3]) ** 0.5
    found = ask(served, most, right)
    passing = [hit for hit in everything if hit["false_match"] <= most]
    assert 0 < len(passing) < len(everything)
    assert [(hit["key"], hit["region"]) for hit in found["hits"]] == [(one["key"], one["region"]) for one in passing]
    assert found["matching"]["max_false_match"] == most
    nothing = ask(served, 1e-300, right)
    assert nothing["hits"] == []
    assert nothing["matching"]["verdict"].startswith("no good match")


def test_every_way_to_ask_has_the_same_words(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    page = {"limit": 20, "offset": 2}
    found = served.client.query(image_of(served), POINT, **page)
    words = [hit["confidence"]["word"] for hit in found.to_dict()["hits"]]
    assert {"weak", "none"} & set(words)
    prompt = {"kind": "points", "foreground": [list(POINT)]}
    answer = served.ask(image=served.name("a/two.png"), prompt=prompt, **page)
    assert [hit["confidence"] for hit in answer["hits"]] == [hit["confidence"] for hit in found.to_dict()["hits"]]
    line = ["query", str(served.folder / "a/two.png"), "--point", "60,20", "--limit", "20", "--offset", "2"]
    assert run([*line, "--format", "json"], connect=lambda _uri, _preset: Kept(served.client)) == 0
    assert [hit["confidence"]["word"] for hit in json.loads(capsys.readouterr().out)["hits"]] == words
    assert found._repr_html_().count("weak match") == sum(word in ("weak", "none") for word in words)
