"""Answers as notebooks show them: the region is seen, doubt is said, texts are escaped, nothing is long."""

from __future__ import annotations

import base64
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageShow

from searchanything.answers.duplicates import Duplicates, Member
from searchanything.answers.matching import Matching
from searchanything.answers.receipts import Replay
from searchanything.answers.results import SearchResults, Segments
from searchanything.core.errors import UsageError
from searchanything.core.geometry import encode_rle
from searchanything.core.rows import ImageRow, Outcome, RegionRow
from searchanything.core.types import Candidate, Hit, ImageRef, Selection, TextMatch
from searchanything.prompts.prompt import Mask
from searchanything.search.combination import CombinedHit, PartMatch
from searchanything.search.probe import Probe

SPOTS = np.random.default_rng(4).random((400, 600)) > 0.5  # run lengths of a hundred thousand letters
RLE = encode_rle(SPOTS)
SQUARE = np.zeros((120, 160), dtype=np.bool_)
SQUARE[30:90, 40:100] = True
IMAGE = np.full((120, 160, 3), 90, dtype=np.uint8)
PLACE = (40.0, 30.0, 100.0, 90.0)
HIT = Hit(
    image=ImageRef("b", "a.jpg"),
    etag="e",
    region=3,
    box_xyxy=PLACE,
    mask=encode_rle(SQUARE),
    area_px=3600,
    score=0.5,
    distance_bits=12,
    image_width=160,
    image_height=120,
    metadata={"note": "x" * 500},
)
CANDIDATE = Candidate(PLACE, 3600, 0.9123, RLE)
SELECTION = Selection("region", PLACE, 3600, RLE, 0.8, "points/score", "the surest of 2", (CANDIDATE,))


def results(*hits: Hit, selection: Selection = SELECTION, matching: Matching | None = None) -> SearchResults:
    return SearchResults(
        hits=hits,
        query_image=IMAGE,
        prompt_description={"kind": "point", "foreground": [[60.0, 50.0]]},
        selection=selection,
        fingerprint="f" * 16,
        collection="regions_f",
        exact=True,
        timings_ms={},
        open_image=lambda _image: IMAGE,
        matching=matching,
    )


ROW = RegionRow(
    id="i" * 32, code=b"c" * 32, image=ImageRef("b", "k"), etag="e", generation=5, region=2, box_xyxy=PLACE, area_px=9,
    mask=RLE, score=0.5, image_width=600, image_height=400, indexed_at_ms=0, metadata={"a": "b" * 999},
)  # fmt: skip
IMAGE_ROW = ImageRow(
    image=ImageRef("b", "k"), etag="e", generation=5, outcome=Outcome.FAILED, regions=0, id="i" * 32, code=b"c" * 32,
    error="ImageError", attempts=1, first_at_ms=0, last_at_ms=0, image_width=0, image_height=0, metadata={},
    message="m" * 5000,
)  # fmt: skip
CODES = np.zeros((40, 32), dtype=np.uint8)
PARTS = CombinedHit(ImageRef("b", "k"), 0.5, (PartMatch("all 1", ROW, 12, 1e-5),) * 8)


@pytest.mark.parametrize(
    "value",
    [
        RLE,
        CANDIDATE,
        replace(SELECTION, reason="why " * 500, runners_up=(CANDIDATE,) * 50),
        replace(HIT, mask=RLE),
        ROW,
        IMAGE_ROW,
        Mask(SPOTS),
        Probe(CODES, ~CODES, "f" * 16),
        results(*[HIT] * 300),
        Segments(IMAGE, (CANDIDATE,) * 300),
        Duplicates(((Member(HIT.ref, 0),) * 9,) * 50, 900, 4, whole_images=False, open_image=lambda _: IMAGE),
        Replay(results(*[HIT] * 300), (), "0.1.0"),
        PARTS,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_printed_is_one_short_line(value: object) -> None:
    shown = repr(value)
    assert "\n" not in shown
    assert len(shown) < 300
    assert RLE.counts[:20] not in shown
    assert type(value).__name__ in shown


def test_what_is_printed_names_what_matters() -> None:
    assert repr(HIT) == "Hit(image=s3://b/a.jpg, region=3, distance_bits=12, box_xyxy=(40, 30, 100, 90))"
    assert repr(PARTS) == "CombinedHit(image=s3://b/k, score=0.5, parts=<8>)"
    assert repr(PARTS.parts[0]) == "PartMatch(part='all 1', distance_bits=12, false_match=1e-05)"
    assert repr(IMAGE_ROW) == "ImageRow(image=s3://b/k, outcome='failed', regions=0, generation=5)"
    assert "\x1b" not in repr(replace(HIT, image=ImageRef("b", "\x1b[2J")))
    assert "\x1b" not in repr(replace(SELECTION, reason="\x1b[2J"))


def test_hits_are_items_of_sets() -> None:
    again = replace(HIT, generation=HIT.generation + 1, metadata=dict(HIT.metadata))
    farther = replace(HIT, distance_bits=HIT.distance_bits + 1)
    assert {HIT, again} == {HIT}
    assert len({HIT, farther, replace(HIT, region=4)}) == 3
    assert {hit.ref for hit in (HIT, farther)} == {HIT.ref}


class Tags(HTMLParser):
    """The tags and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]


def test_the_region_of_a_hit_is_outlined() -> None:
    _, shown = pictures(results(HIT)._repr_html_())
    gray = np.abs(shown.astype(int) - 90).max(axis=-1) < 12
    height, width = gray.shape
    inside = gray[height // 3 : height // 2, width // 3 : width // 2]
    assert gray[: height // 8].all()
    assert not inside.any()
    edges = shown[height // 2, round(width * 0.22) : round(width * 0.29)].astype(int)  # across the left side of it
    assert edges.max() - edges.min() > 120


@pytest.mark.parametrize(
    ("rate", "distance_bits", "weak"),
    # Of 1,000 rows a rate of 1e-4 brings 0.1 by chance; where no rate is known, the agreement decides.
    [(1e-4, 90, False), (1.1e-4, 90, True), (1.0, 90, True), (1.0, 5, False), (None, 84, False), (None, 85, True)],
)
def test_a_weak_match_has_its_badge(rate: float | None, distance_bits: int, weak: bool) -> None:
    hit = replace(HIT, false_match=rate, distance_bits=distance_bits)
    found = results(hit, matching=Matching(500, None, hit, (hit,), rows=1000, bits=256))
    assert ("weak match" in Tags(found._repr_html_()).texts) is weak
    assert (found.to_dict()["hits"][0]["confidence"]["word"] in ("weak", "none")) is weak
    assert results(hit).to_dict()["hits"][0]["confidence"] is None


def test_a_part_of_a_page_keeps_its_words() -> None:
    hits = tuple(
        replace(HIT, false_match=rate, distance_bits=bits) for bits, rate in ((40, 1e-6), (90, 4e-4), (110, 0.5))
    )
    found = results(*hits, matching=Matching(500, None, hits[0], hits, rows=1000, bits=256))
    words = [one.word for one in found.confidences if one is not None]
    assert words == ["very strong", "weak", "none"]
    assert [one.word for one in found[1:].confidences if one is not None] == words[1:]


def test_no_good_match_and_a_weak_text_are_said() -> None:
    verdict = Matching(500, 1e-4, replace(HIT, false_match=0.2))
    text = TextMatch(0.1, 300, 400, "weak")
    page = results(selection=replace(SELECTION, text_match=text), matching=verdict)._repr_html_()
    assert "weak text match" in Tags(page).texts
    assert any(one.startswith("no good match: ") for one in Tags(page).texts)


@settings(max_examples=20)
@given(st.text(max_size=40))
def test_no_text_of_an_answer_is_markup(text: str) -> None:
    hostile = f'"><img onerror=x>{text}</div><script>'
    hit = replace(HIT, image=ImageRef("b", hostile))
    selection = replace(SELECTION, reason=hostile, mask=HIT.mask, runners_up=())  # its picture is quickly drawn
    page = Tags(results(hit, selection=selection)._repr_html_())
    assert page.tags == {"figure", "div", "img", "br", "span", "figcaption"}
    assert page.attributes == {"style", "alt", "src"}


def test_segments_are_one_picture_with_a_caption() -> None:
    page = Segments(IMAGE, (replace(CANDIDATE, mask=encode_rle(SQUARE)),))._repr_html_()
    assert len(pictures(page)) == 1
    assert "<Segments: 1 region in an image of 160 × 120 px>" in "".join(Tags(page).texts)


def test_show_uses_the_notebook_where_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    python, display = ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    display.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    found = results(HIT)
    found.show()
    assert shown == [found]


def test_show_uses_a_viewer_elsewhere_and_says_what_to_do_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    opened: list[Image.Image] = []
    monkeypatch.setattr(ImageShow, "show", lambda image: opened.append(image) or True)
    results(HIT).show()
    Segments(IMAGE, ()).show()
    assert len(opened) == 2
    monkeypatch.setattr(ImageShow, "show", lambda _image: False)
    with pytest.raises(UsageError, match=r"save\('hits.png'\)"):
        results(HIT).show()
