""" "Nothing" is an answer: hits that chance explains as well are left out, and it is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes.machine import Machine
from fakes.models import drawn
from PIL import Image

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import UsageError


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """An index of 260 regions: ten in the query's colour, the others in many."""
    Machine().install(monkeypatch)
    rng = np.random.default_rng(2)
    for number in range(130):
        pixels = drawn(64, 96, red=(4, 4, 40, 60), blue=(50, 8, 90, 40))
        pixels[4:60, 4:40] = np.where(pixels[4:60, 4:40] > 0, pixels[4:60, 4:40], 0)
        noise = rng.integers(0, 60, pixels.shape).astype(np.uint8)
        Image.fromarray(np.maximum(pixels, noise)).save(tmp_path / f"{number}.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    return client


def test_every_hit_has_its_rate(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "0.png", (20, 30), limit=40)
    rates = [hit.false_match for hit in found]
    assert all(rate is not None and 0 < rate <= 1 for rate in rates)
    assert rates == sorted(rates)
    document = json.loads(json.dumps(found.to_dict()))
    assert document["hits"][0]["false_match"] == pytest.approx(rates[0], rel=0.1)
    assert document["matching"]["sample"] == client.status().regions
    assert document["matching"]["verdict"] == ""


def test_hits_beyond_the_rate_are_left_out(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "0.png", (20, 30), limit=40)
    most = found[20].false_match
    cut = client.query(tmp_path / "0.png", (20, 30), limit=40, max_false_match=most)
    assert list(cut) == [hit for hit in found if hit.false_match <= most]
    assert cut.verdict == ""
    replayed = client.replay(cut.receipt(), folder=tmp_path)
    assert replayed.same, replayed.differences


def test_nothing_is_an_answer(client: Client, tmp_path: Path) -> None:
    nearest = client.query(tmp_path / "0.png", (20, 30))[0]
    found = client.query(tmp_path / "0.png", (20, 30), max_false_match=nearest.false_match / 2)
    assert len(found) == 0
    assert found.verdict.startswith("no good match: ")
    assert found.to_dict()["matching"]["nearest_bits"] == nearest.distance_bits
    assert found.plot().size[0] > 0


def test_a_small_index_cannot_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine().install(monkeypatch)
    Image.fromarray(drawn(64, 96, red=(4, 4, 40, 60))).save(tmp_path / "a.png")
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    assert client.query(tmp_path / "a.png", (20, 30))[0].false_match is None
    with pytest.raises(UsageError, match="at least 200 committed codes"):
        client.query(tmp_path / "a.png", (20, 30), max_false_match=1e-3)
    with pytest.raises(UsageError, match="false-match rate"):
        client.query(tmp_path / "a.png", (20, 30), max_false_match=7)
