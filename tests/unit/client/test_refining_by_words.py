"""Marks count by words codes as well, where the index has them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.index_rows import image_row, manifest_of, region_row
from fakes.machine import Machine
from fakes.models import save_noisy

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.client.remote_results import Marks
from searchanything.core.errors import UsageError
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.search import refine as refining
from searchanything.search.probe import Marked, MarkedWords, Probe, layer_name, taught
from searchanything.search.refine import asked_region, marked_regions, search_by_probe
from searchanything.search.search import PageRequest
from searchanything.stores.memory import MemoryRegionIndex

RNG = np.random.default_rng(8)
KINDS = RNG.integers(0, 256, (2, 32), dtype=np.uint8)  # words codes of two kinds of things


def noisy(code: np.ndarray, flips: int) -> np.ndarray:
    bits = np.unpackbits(code)
    bits[RNG.permutation(len(bits))[:flips]] ^= 1
    return np.packbits(bits)


def index_of(kinds: dict[str, int | None], layer: bytes = b"layer") -> MemoryRegionIndex:
    """Images of one region each, whose codes say nothing; words codes say which kind it is, None: there is none."""
    index = MemoryRegionIndex(manifest_of("f" * 64))
    index.add_words(layer, 256)
    base = RNG.integers(0, 256, 32, dtype=np.uint8)
    for key, kind in kinds.items():
        image = ImageRef("bucket", key)
        words = b"" if kind is None else noisy(KINDS[kind], 40).tobytes()
        row = region_row(image, 0, generation=1, code=noisy(base, 60).tobytes())
        index.insert_regions([replace(row, words_code=words)])
        index.insert_images([image_row(image, generation=1)])
    return index


def refs(*keys: str) -> list[RegionRef]:
    return [RegionRef(ImageRef("bucket", key), 0) for key in keys]


def probe_of(index: MemoryRegionIndex, right: list[RegionRef], wrong: list[RegionRef]) -> Probe:
    marked = marked_regions(index, right, wrong)
    return taught(None, marked, None, fingerprint="f" * 64, layer=layer_name(index.words))


def ranked(index: MemoryRegionIndex, probe: Probe) -> list[str]:
    page = search_by_probe(index, probe, PageRequest(100), filter=None)
    return [hit.image.key for hit in page.hits]


def test_what_the_codes_do_not_separate_the_words_codes_do() -> None:
    index = index_of({f"{'ab'[number % 2]}{number:02d}": number % 2 for number in range(40)})
    probe = probe_of(index, refs("a00", "a02"), refs("b01"))
    assert {key[0] for key in ranked(index, probe)[:20]} == {"a"}
    bits_alone = Probe(probe.right, probe.wrong, "f" * 64)
    assert {key[0] for key in ranked(index, bits_alone)[:20]} == {"a", "b"}


def test_scores_are_the_mean_agreement_of_all_bits() -> None:
    index = index_of({"a": 0, "b": 1, "c": 0})
    probe = probe_of(index, refs("a"), refs("b"))
    [row] = index.regions_of([ImageRef("bucket", "c")])
    code, words = np.frombuffer(row.code, np.uint8), index.codes_of([row.id], of="words")[row.id]
    bits = np.concatenate([np.unpackbits(code), np.unpackbits(np.frombuffer(words, np.uint8))]) * 2.0 - 1
    seen = [
        np.concatenate([np.unpackbits(codes[0]), np.unpackbits(more[0])]) * 2.0 - 1
        for codes, more in ((probe.right, probe.words.right), (probe.wrong, probe.words.wrong))
    ]
    expected = bits @ (seen[0] - 0.4 * seen[1]) / 512
    found = probe.scores(code[None], np.frombuffer(words, np.uint8)[None])
    assert found == pytest.approx([expected], rel=1e-5)


def test_a_region_without_a_words_code_counts_as_the_others_do_in_the_mean() -> None:
    index = index_of(
        {**{f"a{number}": 0 for number in range(10)}, **{f"b{number}": 1 for number in range(10)}, "c": None}
    )
    order = ranked(index, probe_of(index, refs("a0"), refs("b0")))
    assert {key[0] for key in order[:10]} == {"a"}
    assert order[10] == "c", "between those whose words codes say so and those whose say not"
    probe = probe_of(index, refs("a0"), refs("b0"))
    alone = search_by_probe(index, probe, PageRequest(9), filter=Filter(key_prefix="c"))
    assert [hit.image.key for hit in alone.hits] == ["c"], "no hit has one"
    assert probe_of(index, refs("a0", "c"), refs("b0")).words is None, "not every mark has one"


def test_an_asked_region_has_a_words_code_where_the_index_has_them() -> None:
    index, without = index_of({"a": 0}), MemoryRegionIndex(manifest_of("f" * 64))
    code, words = KINDS
    asked = asked_region(index, code, words)
    assert (asked.right.tolist(), asked.wrong.shape) == ([code.tolist()], (0, 32))
    assert asked.words is not None
    assert (asked.words.right.tolist(), asked.words.wrong.shape) == ([words.tolist()], (0, 32))
    assert asked.words.layer == layer_name(index.words)
    assert asked_region(index, code, words[:0]).words is None
    assert asked_region(without, code, words).words is None


def test_marks_of_another_layer_are_judged_by_codes_alone() -> None:
    kinds: dict[str, int | None] = {f"{'ab'[number % 2]}{number}": number % 2 for number in range(12)}
    index, other = index_of({"a": 0, "b": 1, "c": 0}), index_of(kinds, layer=b"other")
    probe = probe_of(index, refs("a"), refs("b"))
    assert probe.words is not None
    without = replace(probe, words=None)
    assert ranked(other, probe) == ranked(other, without)
    judged = replace(probe, words=replace(probe.words, layer=str(layer_name(other.words))))
    assert ranked(other, judged) != ranked(other, without), "words codes of one layer would tell them apart"


def test_words_codes_separate_marks_of_one_code() -> None:
    code, words = KINDS[:1], KINDS
    probe = Probe(code, code, "f", MarkedWords(words[:1], words[1:], "layer/256"))
    assert (len(probe.right), len(probe.wrong)) == (1, 1)
    with pytest.raises(UsageError, match="right and wrong"):
        Probe(code, code, "f", MarkedWords(words[:1], words[:1], "layer/256"))


def test_what_lies_near_by_words_alone_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refining, "_DEPTH", 4)
    index = index_of({**{f"a{number}": 0 for number in range(20)}, **{f"b{number}": 1 for number in range(60)}})
    far, [seen] = ImageRef("bucket", "a, by words alone"), index.regions_of([ImageRef("bucket", "a0")])
    opposite = (~np.frombuffer(seen.code, np.uint8)).tobytes()
    row = region_row(far, 0, generation=1, code=opposite)
    index.insert_regions([replace(row, words_code=KINDS[0].tobytes())])
    index.insert_images([image_row(far, generation=1)])
    probe = probe_of(index, refs("a0", "a1"), refs("b0"))
    page = search_by_probe(index, probe, PageRequest(30), filter=None)
    assert far in {hit.image for hit in page.hits}, "no question by codes brings it"
    without = search_by_probe(index, replace(probe, words=None), PageRequest(30), filter=None)
    assert far not in {hit.image for hit in without.hits}
    other = replace(probe, words=replace(probe.words, layer="other/256"))
    of_another_layer = search_by_probe(index, other, PageRequest(30), filter=None)
    assert of_another_layer.hits == without.hits
    others = search_by_probe(index, probe, PageRequest(30), filter=Filter(key_prefix="b"))
    assert {hit.image.key[0] for hit in others.hits} == {"b"}, "a filter holds for both searches"
    assert not page.exact
    [row] = index.regions_of([page.hits[-1].image])
    ideal = probe.questions[0]
    assert page.hits[-1].distance_bits == int(np.unpackbits(ideal ^ np.frombuffer(row.code, np.uint8)).sum())


def test_words_codes_are_saved_and_belong_to_their_layer(tmp_path: Path) -> None:
    index = index_of({"a": 0, "b": 1, "c": 0})
    probe = probe_of(index, refs("a", "c"), refs("b"))
    (tmp_path / "probe.json").write_text(json.dumps(probe.to_dict()))
    read = Probe.read(tmp_path / "probe.json")
    assert read.words is not None
    assert (read.words.right == probe.words.right).all()
    assert ranked(index, read) == ranked(index, probe)
    none = Marked(probe.right[:0], probe.wrong[:0])
    same, other = (
        taught(None, none, read, fingerprint="f" * 64, layer=name) for name in (layer_name(index.words), "other/256")
    )
    assert same.words is not None
    assert other.words is None, "of another layer"


@pytest.mark.parametrize("change", [{"bits": 128}, {"right": []}, {"layer": "x"}, {"wrong": 3}, {"bits": None}])
def test_damaged_words_codes_are_no_probe(change: dict[str, Any]) -> None:
    index = index_of({"a": 0, "b": 1})
    document = probe_of(index, refs("a"), refs("b")).to_dict()
    with pytest.raises(UsageError, match="damaged"):
        Probe.from_dict({**document, "words": {**document["words"], **change}})


def test_marks_of_two_saved_probes_are_joined() -> None:
    index = index_of({"a": 0, "b": 1, "c": 0})
    one, other = (probe_of(index, refs(key), refs("b")).to_dict() for key in ("a", "c"))
    joined = Marks(probe=one).joined((), (), other).probe
    both = Probe.from_dict(joined)
    assert (len(both.right), len(both.wrong), both.words is not None) == (2, 1, True)
    with pytest.raises(UsageError, match="different models"):
        Marks(probe=one).joined((), (), {**other, "fingerprint": "e" * 64})
    for odd in ({}, {**other, "right": "x"}, {**other, "words": "x"}, 7, {**other, "words": {"right": []}}):
        with pytest.raises(UsageError, match="probe"):
            Marks(probe=one).joined((), (), odd)
    strange = {**other, "words": None}
    assert Probe.from_dict(Marks(probe=one).joined((), (), strange).probe).words is None


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    save_noisy(tmp_path)
    made = connect("memory://", preset="pico")
    made.index(tmp_path, add_words=True)
    return made


def test_every_kind_of_question_knows_its_own_words_code(client: Client, tmp_path: Path) -> None:
    of_image = client.query(tmp_path / "0.png", (20, 30), limit=8)
    stored = client.query(of_image[0].ref, limit=8)
    marks = {"right": [of_image[1]], "wrong": [of_image[7]]}
    probes = [found.refine(**marks).probe for found in (of_image, stored)]
    for probe in probes:
        assert probe.words is not None
        assert len(probe.words.right) == 2
    assert (probes[0].words.right == probes[1].words.right).all()
    text = client.query(text="red", limit=8).refine(**marks)
    assert len(text.probe.words.right) == 1
    (tmp_path / "0.png").unlink()
    client.refresh(tmp_path, ["0.png"])
    assert len(stored.refine(wrong=[of_image[7].ref]).probe.right) == 1, "a question outlives its region"
