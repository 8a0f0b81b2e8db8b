"""Hits marked right and wrong refine an answer, across images, and can be saved."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from contracts.index_rows import image_row, manifest_of, region_row
from fakes.machine import Machine
from fakes.models import save_noisy

from searchanything.client.client import Client
from searchanything.client.opening import connect
from searchanything.core.errors import ObjectNotFoundError, ProbeMismatchError, UsageError
from searchanything.core.types import Filter, ImageRef, RegionRef
from searchanything.search import probe as probing
from searchanything.search.probe import Marked, MarkedWords, Probe, taught
from searchanything.search.refine import region_rows, search_by_probe
from searchanything.search.search import Page, PageRequest
from searchanything.stores.memory import MemoryRegionIndex


def flipped(code: np.ndarray, bits: range | np.ndarray) -> np.ndarray:
    unpacked = np.unpackbits(code)
    unpacked[np.asarray(bits)] ^= 1
    return np.packbits(unpacked)


def index_of(codes: dict[str, np.ndarray]) -> MemoryRegionIndex:
    index = MemoryRegionIndex(manifest_of("f" * 64))
    for key, code in codes.items():
        image = ImageRef("bucket", key)
        index.insert_regions([region_row(image, 0, generation=1, code=code.tobytes())])
        index.insert_images([image_row(image, generation=1)])
    return index


BASE = np.random.default_rng(1).integers(0, 256, 32, dtype=np.uint8)
# The wanted kind shares bits 0 to 99 with the marks, whatever the rest; the decoys are near the query otherwise.
CODES = {
    "query": BASE,
    "right": flipped(BASE, range(100, 180)),
    "wrong": flipped(BASE, range(40)),
    "like right": flipped(BASE, range(90, 182)),
    "like wrong": flipped(BASE, range(44)),
}


def test_marks_turn_the_order_and_reach_further() -> None:
    index = index_of(CODES)
    near = [hit.image.key for hit in _asked(index, Probe(BASE[None], BASE[None][:0], "f"))]
    assert near == ["query", "wrong", "like wrong", "right", "like right"]
    rows = region_rows(index, [RegionRef(ImageRef("bucket", key), 0) for key in ("right", "wrong")])
    right, wrong = (np.frombuffer(row.code, np.uint8)[None] for row in rows)
    probe = Probe(np.concatenate([BASE[None], right]), wrong, "f")
    assert probe.scores(wrong)[0] < Probe(probe.right, wrong[:0], "f").scores(wrong)[0] - 0.1, "wrong marks count"
    assert {hit.image.key for hit in _asked(index, probe)[:3]} == {"right", "query", "like right"}
    assert [hit.image.key for hit in _asked(index, probe, Filter(key_prefix="like"))] == ["like right", "like wrong"]


def _asked(index: MemoryRegionIndex, probe: Probe, filter: Filter | None = None) -> list:
    page = search_by_probe(index, probe, PageRequest(limit=5), filter=filter)
    assert page.exact
    return list(page.hits)


def test_pages_and_bounds_are_cut_from_one_order() -> None:
    index = index_of(CODES)
    index.insert_regions(
        [region_row(ImageRef("bucket", "query"), one, generation=1, code=CODES["right"].tobytes()) for one in (1, 2)]
    )
    probe = Probe(BASE[None], BASE[None][:0], "f")

    def asked(**request: Any) -> Page:
        return search_by_probe(index, probe, PageRequest(**request), filter=None)

    every = asked(limit=9).hits
    named = [(hit.image.key, hit.region, hit.distance_bits) for hit in every]
    assert named == [
        ("query", 0, 0), ("wrong", 0, 40), ("like wrong", 0, 44),
        ("query", 1, 80), ("query", 2, 80), ("right", 0, 80), ("like right", 0, 92),
    ]  # fmt: skip
    assert asked(limit=2, offset=3).hits == every[3:5]
    assert asked(limit=9, offset=7).hits == ()
    assert asked(limit=9, most_bits=44).hits == every[:3]
    assert asked(limit=9, group_by_image=True).hits == (every[0], *every[1:3], *every[5:])
    unlike = Probe(CODES["like right"][None], BASE[None], "f")
    page = search_by_probe(index, unlike, PageRequest(limit=9, most_bits=0), filter=None)
    assert [hit.image.key for hit in page.hits] == ["like right"]
    empty = search_by_probe(index, unlike, PageRequest(limit=9, offset=1, most_bits=0), filter=None)
    assert empty.hits == ()
    assert empty.nearest == page.hits[0], "what is nearest does not depend on the page"


def test_not_all_regions_are_looked_at_where_there_are_more() -> None:
    index = index_of(CODES)
    probe = Probe(BASE[None], BASE[None][:0], "f")
    for most, is_exact in ((4, False), (5, False), (6, True)):
        index.max_limit = most
        page = search_by_probe(index, probe, PageRequest(limit=2), filter=None)
        assert page.exact == is_exact, "as many as were asked for may not be all"


def test_garbage_is_no_hit() -> None:
    index = index_of(CODES)
    index.insert_regions([region_row(ImageRef("bucket", "query"), 0, generation=2, code=BASE.tobytes())])
    index.insert_regions([region_row(ImageRef("bucket", "never"), 0, generation=2, code=BASE.tobytes())])
    assert len(_asked(index, Probe(BASE[None], BASE[None][:0], "f"))) == 5
    with pytest.raises(ObjectNotFoundError, match="never region 0"):
        region_rows(index, [RegionRef(ImageRef("bucket", "never"), 0)])


def test_precision_is_cross_validated() -> None:
    rng = np.random.default_rng(3)
    right = np.stack([flipped(BASE, rng.choice(256, 20, replace=False)) for _ in range(5)])
    wrong = np.stack([flipped(~BASE, rng.choice(256, 20, replace=False)) for _ in range(5)])
    assert Probe(right, wrong, "f").precision() == 1.0
    noise = rng.integers(0, 256, (40, 32), dtype=np.uint8)
    assert float(Probe(noise[:20], noise[20:], "f").precision() or 0) < 0.8, "what is not there is not claimed"
    assert Probe(right, wrong[:1], "f").precision() is Probe(right[:1], wrong, "f").precision() is None


def left_one_out(right: np.ndarray, wrong: np.ndarray) -> float | None:
    """Of the marks that the others' mean calls right, the share that is, mark by mark; None where one call is close."""
    called = []
    for one in range(len(right) + len(wrong)):
        left = np.delete(right, one, 0) if one < len(right) else right
        out = np.delete(wrong, one - len(right), 0) if one >= len(right) else wrong
        weights = left.mean(axis=0) - 0.4 * out.mean(axis=0)
        middle = (np.mean(left @ weights) + np.mean(out @ weights)) / 2
        score = np.concatenate([right, wrong])[one] @ weights
        if abs(score - middle) < 1e-3:
            return None
        called.append(bool(score > middle))
    return sum(called[: len(right)]) / max(sum(called), 1)


def test_precision_is_that_of_leaving_each_mark_out() -> None:
    rng = np.random.default_rng(11)
    found = []
    for _ in range(150):
        codes = rng.integers(0, 256, (rng.integers(4, 9), 2), dtype=np.uint8)
        codes = np.unique(codes, axis=0)
        signs = np.unpackbits(codes, axis=1) * 2.0 - 1
        expected = left_one_out(signs[:2], signs[2:]) if len(codes) >= 4 else None
        if expected is not None:
            assert Probe(codes[:2], codes[2:], "f").precision() == pytest.approx(expected)
            found.append(expected)
    assert {0.0, 1.0} < set(found), "none called right, all rightly, and between"


def test_a_probe_is_what_was_saved(tmp_path: Path) -> None:
    probe = Probe(np.stack([BASE, ~BASE]), CODES["wrong"][None], "f" * 64)
    file = tmp_path / "probe.json"
    file.write_text(json.dumps(probe.to_dict()))
    read = Probe.read(file)
    assert (read.right == probe.right).all()
    assert (read.wrong == probe.wrong).all()


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (Probe(BASE[None], BASE[None][:0], "f" * 64), f"hash layer .fingerprint {'f' * 64}, expected {'e' * 64}"),
        (Probe(BASE[None], BASE[None][:0], "e" * 20), f"hash layer .fingerprint {'e' * 20}, expected {'e' * 64}"),
        (Probe(BASE[None][:, :16], BASE[None][:0, :16], "e" * 64), "codes of 128 bits, expected 256"),
    ],
)
def test_a_probe_that_does_not_fit_is_its_owners_to_replace(saved: Probe, said: str) -> None:
    with pytest.raises(ProbeMismatchError, match=f"{said}.*: mark hits of this index instead"):
        taught(Probe(BASE[None], ~BASE[None], "e" * 64), Marked(BASE[None], ~BASE[None]), saved, fingerprint="e" * 64)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "searchanything-probe/1"}', "[" * 10_000,
             '{"format": "searchanything-probe/1", "bits": 256, "fingerprint": "f", "right": ["AA=="], "wrong": []}',
             '{"format": "searchanything-probe/1", "bits": 1e999, "fingerprint": "f", "right": [], "wrong": []}',
             '{"format": "searchanything-probe/1", "bits": 256, "fingerprint": "f", "right": [], "wrong": []}',
             '{"format": "searchanything-probe/2", "bits": 8, "fingerprint": "f", "right": ["AA=="], "wrong": []}',
             '{"format": "searchanything-probe/1", "bits": 8, "fingerprint": "f", "right": ["A!A=="], "wrong": []}',
             json.dumps(Probe(BASE[None], BASE[None][:0], "f").to_dict() | {"wrong": {}}),
             '{"format": "searchanything-probe/1", "bits": 7, "fingerprint": "f", "right": [""], "wrong": []}',
             " " * 2**20 + json.dumps(Probe(BASE[None], BASE[None][:0], "f").to_dict())]
)  # fmt: skip
def test_what_is_no_probe(text: str, tmp_path: Path) -> None:
    (tmp_path / "probe.json").write_text(text)
    with pytest.raises(UsageError):
        Probe.read(tmp_path / "probe.json")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    Machine().install(monkeypatch)
    save_noisy(tmp_path)
    client = connect("memory://", preset="pico")
    client.index(tmp_path)
    return client


def test_results_are_refined_and_saved(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "0.png", (20, 30), limit=8)
    refined = found.refine(right=found[1:3], wrong=[found[7]])
    assert len(refined) == 8
    assert refined.to_dict()["probe"] == {"right": 3, "wrong": 1, "precision": None}
    more = refined.refine(wrong=[found[6].ref])
    assert more.to_dict()["probe"]["wrong"] == 2
    assert more.to_dict()["probe"]["precision"] is not None
    more.save_probe(tmp_path / "probe.json")
    again = found.refine(probe=Probe.read(tmp_path / "probe.json"))
    assert [hit.ref for hit in again] == [hit.ref for hit in more]
    with pytest.raises(UsageError, match="no receipt"):
        more.receipt()


def test_a_mark_counts_once(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "0.png", (20, 30), limit=8)
    assert found[0].distance_bits == 0, "the query's own region"
    once = found.refine(right=[found[1]], wrong=[found[7]])
    again = once.refine(right=[found[1], found[0]]).refine(right=[found[1]], wrong=[found[7], found[7].ref])
    assert again.to_dict()["probe"] == {"right": 2, "wrong": 1, "precision": None}
    assert again.hits == once.hits
    thrice = found.refine(right=[found[1]] * 3, wrong=[found[7]] * 2)
    assert thrice.to_dict()["probe"] == once.to_dict()["probe"], "copies would judge each other"


def test_saved_marks_are_the_same_marks_again(client: Client, tmp_path: Path) -> None:
    for question in ((tmp_path / "0.png", (20, 30)), (found_in(client, tmp_path),)):
        found = client.query(*question, limit=8)
        refined = found.refine(right=[found[2]], wrong=[found[6], found[7]])
        refined.save_probe(tmp_path / "probe.json")
        again = found.refine(probe=Probe.read(tmp_path / "probe.json"))
        assert again.hits == refined.hits
        assert again.to_dict()["probe"] == refined.to_dict()["probe"]


def found_in(client: Client, tmp_path: Path) -> RegionRef:
    return client.query(tmp_path / "1.png", (20, 30))[0].ref


def test_no_region_is_right_and_wrong(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "0.png", (20, 30), limit=8)
    for right, wrong in (([found[1]], [found[1].ref]), ([], [found[0]])):
        with pytest.raises(UsageError, match="right and wrong"):
            found.refine(right=right, wrong=wrong)
    with pytest.raises(UsageError, match="right and wrong"):
        found.refine(right=[found[1]]).refine(wrong=[found[1]])


def random_codes(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 32), dtype=np.uint8)


@pytest.mark.parametrize(("right", "wrong"), [(101, 0), (1, 101), (17_000, 3)])
def test_a_probe_has_at_most_a_hundred_marks_of_each_kind(right: int, wrong: int) -> None:
    codes = random_codes(right + wrong)
    document = Probe(codes[:1], codes[1:1], "f").to_dict()
    encoded = [base64.b64encode(code.tobytes()).decode() for code in codes]
    for make in (
        lambda: Probe(codes[:right], codes[right:], "f"),
        lambda: Probe.from_dict(document | {"right": encoded[:right], "wrong": encoded[right:]}),
    ):
        with pytest.raises(UsageError, match=f"at most 100 right and 100 wrong marks .* got {right} right"):
            make()


def test_scores_worked_out_by_hand() -> None:
    """The right marks' mean as signs is 1 1 0 0 0 0 -1 -1; less 0.4 of the wrong one's, eight weights."""
    probe = Probe(np.array([[0b11110000], [0b11001100]], np.uint8), np.array([[0b10101010]], np.uint8), "f")
    np.testing.assert_allclose(probe.weights, [0.6, 1.4, -0.4, 0.4, -0.4, 0.4, -1.4, -0.6], rtol=1e-6)
    codes = np.array([[0b11111111], [0b11000000], [0b11010100]], np.uint8)
    np.testing.assert_allclose(probe.scores(codes), [0.0, 4.0 / 8, 5.6 / 8], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(probe.scores(codes, codes), probe.scores(codes), "it has no words codes")
    assert probe.questions.tolist() == [[0b11010100], [0b11110000], [0b11001100]]
    assert MarkedWords(probe.right, probe.wrong, "layer/8").question.tolist() == [[0b11010100]]
    assert repr(probe) == "<Probe: 2 right, 1 wrong, fingerprint f>"


def test_marks_of_two_lengths_are_no_probe() -> None:
    with pytest.raises(UsageError, match="same length"):
        Probe(BASE[None], BASE[None, :16], "f")


def test_copies_are_not_counted() -> None:
    codes = random_codes(4)
    assert len(Probe(np.tile(codes, (50, 1)), codes[:0], "f").right) == 4
    assert Probe(codes[[0, 0, 0]], codes[[1, 1]], "f").precision() is None


class Counted(MemoryRegionIndex):
    """Remembers with how many codes it was searched."""

    asked: ClassVar[list[int]] = []

    def search(self, codes, **more):  # type: ignore[no-untyped-def]
        self.asked.append(len(codes))
        return super().search(codes, **more)


@pytest.mark.parametrize("marks", [1, 8, 9, 100])
def test_the_search_does_not_grow_with_the_marks(marks: int) -> None:
    index = Counted(manifest_of("f" * 64))
    index.asked.clear()
    probe = Probe(random_codes(marks), random_codes(0), "f")
    search_by_probe(index, probe, PageRequest(limit=5), filter=None)
    assert index.asked == [1 + min(marks, 8)]
    assert {bytes(code) for code in probe.questions[1:]} <= {bytes(code) for code in probe.right}


def test_of_many_marks_the_most_different_are_searched_with() -> None:
    near = np.stack([flipped(BASE, range(bit, bit + 1)) for bit in range(60)])
    far = np.stack([flipped(BASE, range(32 * part, 32 * part + 32)) for part in range(4)])
    searched = {bytes(code) for code in Probe(np.concatenate([near, far]), near[:0], "f").questions}
    assert {bytes(code) for code in far} <= searched


def test_scores_are_the_same_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    probe, codes = Probe(random_codes(3), ~random_codes(2), "f"), random_codes(10)
    signs = np.unpackbits(codes, axis=1) * 2.0 - 1
    expected = signs @ probe.weights / 256
    assert len(np.unique(probe.scores(codes[[0] * 10]))) == 1, "equal codes score equally wherever they stand"
    monkeypatch.setattr(probing, "_CODES_AT_ONCE", 3)
    np.testing.assert_allclose(probe.scores(codes), expected, rtol=1e-5)


def test_what_cannot_be_refined(client: Client, tmp_path: Path) -> None:
    found = client.query(tmp_path / "0.png", (20, 30))
    with pytest.raises(UsageError, match="right or wrong"):
        found.refine()
    with pytest.raises(UsageError, match="refine the answer first"):
        found.save_probe(tmp_path / "probe.json")
    with pytest.raises(UsageError, match="only an answer of regions"):
        client.query(tmp_path / "0.png").refine(right=[found[0]])
