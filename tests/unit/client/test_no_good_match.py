""" "Nothing" is an answer: hits that chance explains as well are left out, and it is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import UsageError
from searchanything.search.calibration import false_match_rates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """260 regions: ten in the query's colour, the others in many."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(2)
    for number in range(130):
        pixels = drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40))
        pixels[4:60, 4:40] = np.where(pixels[4:60, 4:40] > 0, pixels[4:60, 4:40], 0)
        noise = rng.integers(0, 60, pixels.shape).astype(np.uint8)
        Image.fromarray(np.maximum(pixels, noise)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    """Of one index for all tests here; some add words to it, which takes nothing from the others."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        Machine().install(monkeypatch)
        client = connect("memory://", preset="pico")
        client.index(folder)
        yield client


def test_every_hit_has_its_rate(client: Client, folder: Path) -> None:
    found = client.query(folder / "0.png", (20, 30), limit=40)
    rates = [hit.false_match for hit in found]
    assert all(rate is not None and 0 < rate <= 1 for rate in rates)
    assert rates == sorted(rates)
    document = json.loads(json.dumps(found.to_dict()))
    assert document["hits"][0]["false_match"] == pytest.approx(rates[0], rel=0.1)
    assert document["matching"]["sample"] == client.status().regions
    assert document["matching"]["verdict"] == ""


def test_hits_beyond_the_rate_are_left_out(client: Client, folder: Path) -> None:
    found = client.query(folder / "0.png", (20, 30), limit=40)
    most = found[20].false_match
    cut = client.query(folder / "0.png", (20, 30), limit=40, max_false_match=most)
    assert list(cut) == [hit for hit in found if hit.false_match <= most]
    assert cut.verdict == ""
    replayed = client.replay(cut.receipt(), folder=folder)
    assert replayed.same, replayed.differences


def test_nothing_is_an_answer(client: Client, folder: Path) -> None:
    nearest = client.query(folder / "0.png", (20, 30))[0]
    found = client.query(folder / "0.png", (20, 30), max_false_match=nearest.false_match / 2)
    assert len(found) == 0
    assert found.verdict.startswith("no good match: ")
    assert found.to_dict()["matching"]["nearest_bits"] == nearest.distance_bits
    assert found.plot().size[0] > 0


def test_words_have_rates_and_a_cut_of_their_own(client: Client, folder: Path) -> None:
    client.index(folder, add_words=True)
    found = client.query(text="red", limit=300, rescore=0)
    rates = [hit.false_match for hit in found]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] <= 1
    assert found.to_dict()["matching"]["sample"] == client.status().words_regions
    counts = np.bincount([hit.distance_bits for hit in found], minlength=257)
    assert len(found) == counts.sum() == client.status().words_regions, "all words codes' distances to the text"
    stated = false_match_rates(counts, shape=0.0)
    assert rates == pytest.approx([stated[hit.distance_bits] for hit in found])
    assert found.confidences == (None,) * len(found), "text_match says how good words are"
    most = rates[0]
    cut = client.query(text="red", limit=300, max_false_match=most)
    assert 0 < len(cut) < len(found)
    assert {hit.ref for hit in cut} == {hit.ref for hit in found if hit.false_match <= most}
    assert client.replay(cut.receipt()).same
    nothing = client.query(text="red", max_false_match=rates[0] / 2)
    assert len(nothing) == 0
    assert nothing.verdict.startswith("no good match: ")
    assert nothing.to_dict()["matching"]["nearest_bits"] == found[0].distance_bits
    with pytest.raises(UsageError, match="false-match rate"):
        client.query(text="red", max_false_match=-1)


def test_a_refined_answer_to_words_is_cut_as_well(client: Client, folder: Path) -> None:
    client.index(folder, add_words=True)
    found = client.query(text="red", limit=300)
    everything = found.refine(right=[found[0]])
    most = min(hit.false_match for hit in everything)
    cut = client.query(text="red", limit=300, max_false_match=most).refine(right=[found[0]])
    assert [hit.ref for hit in cut] == [hit.ref for hit in everything if hit.false_match <= most]
    assert 0 < len(cut) < len(everything)
    assert cut.to_dict()["matching"]["max_false_match"] == most


def test_a_small_index_has_no_rates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine().install(monkeypatch)
    Image.fromarray(drawn(64, 96, red=(4, 4, 40, 60))).save(tmp_path / "a.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    assert client.query(tmp_path / "a.png", (20, 30))[0].false_match is None
    with pytest.raises(UsageError, match="at least 200 committed codes"):
        client.query(tmp_path / "a.png", (20, 30), max_false_match=1e-3)
    with pytest.raises(UsageError, match="false-match rate"):
        client.query(tmp_path / "a.png", (20, 30), max_false_match=7)
