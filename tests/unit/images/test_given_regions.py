"""Regions that sidecars give: what is taken, what is left out and said, whatever a sidecar holds."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from contracts.index_rows import image_row
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from searchanything.core import coco_masks
from searchanything.core.coco_masks import read_coco_mask
from searchanything.core.geometry import decode_rle, encode_rle
from searchanything.core.types import ImageRef, StoredObject
from searchanything.images import given_regions
from searchanything.images.given_regions import (
    MOST_GIVEN_REGIONS,
    GivenRegions,
    read_given_regions,
    with_given_regions,
)
from searchanything.images.sidecars import (
    MAX_REGIONS_BYTES,
    MAX_SIDECAR_BYTES,
    has_given_regions,
    parse_sidecar,
    parse_sidecar_with_regions,
)
from searchanything.stores.row_checks import RowLimits

SIZE = 30, 40  # height, width
SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]  # its pixels are columns and rows 10 to 19
PIXELS = np.zeros(SIZE, dtype=np.uint8)
PIXELS[10:20, 10:20] = 1
COMPRESSED = {"size": [30, 40], "counts": coco_mask.encode(np.asfortranarray(PIXELS))["counts"].decode()}
RUNS = {"size": [30, 40], "counts": [310, *[10, 20] * 9, 10, 610]}


def only(entry: object) -> GivenRegions:
    """The one region that an entry gives."""
    found, wrong = read_given_regions([entry], SIZE)
    assert found is not None, wrong
    assert (len(found.scores), wrong) == (1, "")
    return found


@pytest.mark.parametrize(
    ("entry", "box", "area_px"),
    [
        ({"box_xyxy": [1, 2, 4.5, 6]}, [1, 2, 4.5, 6], 14),
        ({"bbox": [1, 2, 3, 4]}, [1, 2, 4, 6], 12),
        ({"box_xyxy": [-5, -5, 50, 5]}, [0, 0, 40, 5], 200),
        ({"mask": SQUARE}, [10, 10, 20, 20], 100),
        ({"segmentation": COMPRESSED}, [10, 10, 20, 20], 100),
        ({"mask": RUNS}, [10, 10, 20, 20], 100),
        ({"mask": SQUARE, "box_xyxy": [8, 8, 45, 24]}, [8, 8, 40, 24], 100),
        ({"bbox": [8, 8, 5, 5], "segmentation": SQUARE, "id": 7, "category_id": 1, "iscrowd": 0}, [8, 8, 13, 13], 100),
        ({"box_xyxy": [1, 2, 4, 6], "mask": None, "segmentation": [], "score": None}, [1, 2, 4, 6], 12),
        ({"box_xyxy": [1, 2, 4, 6], "bbox": [1, 1, 9, 9], "bbox_mode": 0}, [1, 2, 4, 6], 12),
        ({"mask": SQUARE, "segmentation": [[1, 1, 9, 1, 9, 9]]}, [10, 10, 20, 20], 100),
        ({"mask": [], "segmentation": SQUARE}, [10, 10, 20, 20], 100),
        ({"mask": SQUARE, "image_size": [30, 40]}, [10, 10, 20, 20], 100),
        ({"segmentation": [[1, 2, 3, 4], *SQUARE, [5, 6]]}, [10, 10, 20, 20], 100),  # contours of one and two pixels
        ({"bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4]]}, [1, 2, 4, 6], 12),
        ({"box_xyxy": [-1e308, 2, 1e308, 6], "bbox_mode": 1}, [0, 2, 40, 6], 160),
    ],
)
def test_a_region_has_a_box_a_mask_or_both(entry: object, box: list[float], area_px: float) -> None:
    found = only(entry)
    assert (found.boxes_xyxy.tolist(), found.areas_px.tolist(), found.scores.tolist()) == ([box], [area_px], [1.0])
    [mask] = found.masks
    assert mask is None or np.array_equal(decode_rle(mask), PIXELS > 0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (5, "expected an object with a box or a mask, got int"),
        ({}, "expected a box or a mask, got neither"),
        ({"box_xyxy": [1, 2, 3]}, "box_xyxy"),
        ({"box_xyxy": [1, 2, "3", 4]}, "valid number"),
        ({"box_xyxy": [1, 2, True, 4]}, "valid number"),
        ({"box_xyxy": [0, 0, float("inf"), 5]}, "finite number"),
        ({"box_xyxy": [float("nan"), 0, 4, 5]}, "finite number"),
        ({"box_xyxy": [0, 0, 10**400, 5]}, "valid number"),
        ({"box_xyxy": [50, 0, 60, 5]}, "expected a box in the image of 40 x 30 pixels, got [50, 0, 60, 5]"),
        ({"box_xyxy": [5, 5, 5, 9]}, "expected a box in the image"),
        ({"box_xyxy": [9, 5, 5, 9]}, "expected a box in the image"),
        ({"box_xyxy": [39.9999999999, 0, 45, 5]}, "expected a box in the image"),
        ({"box_xyxy": [1, 2, 3, 4], "score": 1.5}, "score"),
        ({"box_xyxy": [1, 2, 3, 4], "score": "high"}, "score"),
        ({"bbox": [1e308, 2, 1e308, 4]}, "expected a box in the image"),
        ({"bbox": [1, 2, 9, 9], "bbox_mode": 0}, "bbox_mode"),  # Detectron2's corners
        ({"mask": [[1, 2, 3]]}, "at least 6"),
        ({"mask": [[1, 2, 3, 4], [5, 6]]}, "expected a box or a mask, got neither"),
        ({"mask": SQUARE, "image_size": [40, 30]}, "an image of the size (30, 40), got one of (40, 30)"),
        ({"bbox": [1, 2, 3, 4], "image_size": "30 x 40"}, "image_size"),
        ({"mask": [[1, 1, 9, 1, 9, 9, 1]]}, "odd number"),
        ({"mask": [*SQUARE, [1, 1, 9, 1, 9, 9, 1]]}, "odd number"),
        ({"mask": [[9, 9, 163, 1, 9, 1]]}, "expected coordinates near the image, from -81 to 162, got others"),
        ({"mask": [[9, 9, 9, -82, 9, 1]]}, "expected coordinates near the image, from -81 to 162, got others"),
        ({"mask": [[1e9, 1, 9, 1, 9, 9]]}, "pixels in all"),
        ({"mask": [[1e308, 1, -1e308, 1, 9, 9]]}, "pixels in all"),
        ({"mask": [[100, 10, 60, 10, 60, 20]]}, "an empty one"),
        ({"mask": {"size": [40, 30], "counts": "a"}}, "expected the image's size (30, 40), got (40, 30)"),
        ({"mask": {"size": [30, 40], "counts": "zzz"}}, "expected runs"),
        ({"mask": {"size": [30, 40], "counts": "\udcff"}}, ""),
        ({"mask": {"size": [30, 40], "counts": [5, 5]}}, "expected runs of 1200 pixels, got 10 in 2 runs"),
        ({"mask": {"size": [30, 40], "counts": [-1, 1201]}}, "expected runs of 1200 pixels, got 1200 in 2 runs"),
        ({"mask": {"size": [30, 40], "counts": []}}, "expected runs of 1200 pixels, got 0 in 0 runs"),
        ({"mask": {"size": [30, 40], "counts": [10**900]}}, "expected runs of 1200 pixels"),
        ({"mask": {"size": [30, 40], "counts": [1200]}}, "an empty one"),
        ({"mask": SQUARE, "box_xyxy": [0, 0, 5, 5]}, "beside it"),
    ],
)
def test_what_is_no_region_is_left_out_and_said(entry: object, said: str) -> None:
    found, wrong = read_given_regions([entry], SIZE)
    assert found is None
    assert wrong.startswith("none of 1 region can be used, the segmenter's are indexed: regions[0]: ")
    assert said in wrong
    reason = wrong.partition("regions[0]: ")[2]
    assert len(reason) <= 120
    shown = "; ".join(f"regions[{number}]: {reason}" for number in range(3))
    for number, more in ((3, ""), (4, " …")):
        wrong = read_given_regions([entry] * number, SIZE)[1]
        assert wrong == f"none of {number} regions can be used, the segmenter's are indexed: {shown}{more}"
    found, wrong = read_given_regions([{"mask": SQUARE}, entry], SIZE)
    assert found is not None
    assert found.areas_px.tolist() == [100.0]
    assert wrong.startswith("1 of 2 regions left out: regions[1]: ")


def test_a_list_is_wanted_of_not_too_many() -> None:
    assert read_given_regions({"0": {}}, SIZE) == (
        None,
        "regions: expected a list, got dict; the segmenter's are indexed",
    )
    full = [{"box_xyxy": [0, 0, 5, 5]}] * MOST_GIVEN_REGIONS
    found, wrong = read_given_regions(full, SIZE)
    assert found is not None
    assert (len(found.scores), wrong) == (1000, "")
    assert read_given_regions([*full, *full], SIZE)[1].startswith("regions: at most 1000 are taken, got 2000")
    empty, wrong = read_given_regions([], SIZE)
    assert empty is not None
    assert (empty.boxes_xyxy.shape, empty.masks, wrong) == ((0, 4), (), "")


_SIDES = st.integers(-2, 10)


@settings(max_examples=300)
@given(st.tuples(_SIDES, _SIDES, _SIDES, _SIDES), st.integers(0, 7), st.integers(0, 5), st.data())
def test_a_box_counts_as_far_as_it_lies_in_the_image_and_where_its_mask_meets_it(
    box: tuple[int, int, int, int], left: int, top: int, data: st.DataObject
) -> None:
    """By painting both; one without width or height leaves it to the mask."""
    (x1, y1, x2, y2), inside, pixels = box, np.zeros((6, 8), np.bool_), np.zeros((6, 8), np.bool_)
    inside[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
    tight = [left, top, data.draw(st.integers(left + 1, 8)), data.draw(st.integers(top + 1, 6))]
    pixels[tight[1] : tight[3], tight[0] : tight[2]] = True
    clipped = [max(x1, 0), max(y1, 0), min(x2, 8), min(y2, 6)]
    alone, wrong = read_given_regions([{"box_xyxy": box}], (6, 8))
    if alone is None:
        assert not inside.any()
        assert "expected a box in the image of 8 x 6 pixels" in wrong
    else:
        assert (alone.boxes_xyxy.tolist(), alone.areas_px.tolist()) == ([clipped], [inside.sum()])
    rle = encode_rle(pixels)
    entry = {"box_xyxy": box, "mask": {"size": rle.size, "counts": rle.counts}}
    found, wrong = read_given_regions([entry], (6, 8))
    is_flat = 0 in (x2 - x1, y2 - y1) and x1 <= x2 and y1 <= y2
    if is_flat or (inside & pixels).any():
        assert found is not None
        assert found.boxes_xyxy.tolist() == [tight if is_flat else clipped]
        assert (found.areas_px.tolist(), found.masks) == ([pixels.sum()], (rle,))
    else:
        assert found is None
        assert ("beside it" if inside.any() else "expected a box in the image") in wrong


@pytest.mark.parametrize(
    ("runs", "box", "tight"),
    [([65, 5, 1130], [2, 5, 0, 4], [2, 5, 3, 10]), ([65, 1, 1134], [2, 5, 0, 0], [2, 5, 3, 6])],
)
def test_boxes_of_sam_end_at_the_last_pixel(runs: list[int], box: list[float], tight: list[float]) -> None:
    """Of a mask one pixel wide they have no width."""
    found = only({"segmentation": {"size": [30, 40], "counts": runs}, "bbox": box, "predicted_iou": 0.9})
    assert (found.boxes_xyxy.tolist(), found.areas_px.tolist()) == ([tight], [runs[1]])


def test_a_mask_may_fill_an_image_of_so_many_pixels_and_reach_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only({"mask": {"size": [30, 40], "counts": [0, 1200]}}).areas_px.tolist() == [1200.0]
    far = [[-81, 0, 162, 0, 162, 30, -81, 30]]
    monkeypatch.setattr(coco_masks, "MAX_MASK_CELLS", 1200)
    assert only({"mask": far}).areas_px.tolist() == [1200.0]
    monkeypatch.setattr(coco_masks, "MAX_MASK_CELLS", 1199)
    assert read_given_regions([{"mask": far}], SIZE)[1].endswith("expected at most 1,199 pixels, got 40 x 30")


def test_polygons_that_are_merged_in_parts_are_the_same_mask() -> None:
    rng = np.random.default_rng(3)
    polygons = rng.uniform(-5, 60, (70, 6)).round(1).tolist()
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, 300, 400))
    assert read_coco_mask(polygons, (300, 400)).counts == merged["counts"].decode()


@pytest.mark.parametrize("room_px", [64, 95])
def test_outlines_of_regions_that_are_left_out_count(room_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are walked as well, and held the interpreter for minutes."""
    monkeypatch.setattr(given_regions, "MOST_OUTLINE_PX", room_px)
    beside = {"mask": [[10, 10, 20, 10, 20, 16, 10, 16]], "box_xyxy": [0, 0, 5, 5]}  # 32 pixels around
    found, wrong = read_given_regions([beside] * 3, SIZE)
    assert (found, wrong.count("beside it"), wrong.count("pixels in all")) == (None, 2, 1)


def test_outlines_that_would_fill_the_memory_are_not_walked() -> None:
    """Five points a pixel: those of a sidecar's 80,000 corners, across a large image and back, would take 100 GB."""
    there_and_back = [[-7000.0, 5.0, 15000.0, 9.0] * 10_000]
    found, wrong = read_given_regions([{"mask": there_and_back}, {"mask": SQUARE}], (4000, 3000))
    assert found is not None
    assert (len(found.scores), "1 of 2 regions left out" in wrong, "4,194,304 pixels in all" in wrong) == (
        1,
        True,
        True,
    )
    side = [[0, 0, 3000, 0, 3000, 4000, 0, 4000]]  # 14,000 pixels around
    found, wrong = read_given_regions([{"mask": side}] * 300, (4000, 3000))
    assert found is not None
    assert (len(found.scores), "1 of 300 regions left out: regions[299]" in wrong) == (299, True)
    assert only({"mask": SQUARE * 1000}).areas_px.tolist() == [100.0]
    assert read_given_regions([{"mask": [[1, 1, 2, 1, 2, 2]] * 1001}], SIZE)[1].endswith(
        "at most 1000 polygons, got 1001"
    )


def test_the_surest_come_first() -> None:
    entries = [{"bbox": [0, 0, 1 + number, 5], "score": score} for number, score in enumerate((0.2, 0.9, 0.5, 0.9))]
    found, _ = read_given_regions(entries, SIZE)
    assert found is not None
    assert found.areas_px.tolist() == [10.0, 20.0, 15.0, 5.0]
    assert found.scores.tolist() == pytest.approx([0.9, 0.9, 0.5, 0.2])


_NUMBERS = st.one_of(st.integers(-60, 90), st.floats(-60, 90), st.floats(), st.booleans(), st.text(max_size=2))
_RUNS = st.one_of(st.text(alphabet="0123456789abc_`~\\", max_size=12), st.lists(st.integers(-2, 1300), max_size=5))
_OUTLINES = st.one_of(
    st.lists(st.lists(_NUMBERS, max_size=9), max_size=3),
    st.fixed_dictionaries(
        {"size": st.sampled_from([[30, 40], [40, 30], [1 << 40, 1 << 40], [], "x"]), "counts": _RUNS}
    ),
)
_ENTRIES = st.one_of(
    st.none(),
    st.integers(),
    st.fixed_dictionaries(
        {},
        optional={
            "box_xyxy": st.lists(_NUMBERS, min_size=3, max_size=5),
            "bbox": st.lists(_NUMBERS, min_size=4, max_size=4),
            "mask": _OUTLINES,
            "segmentation": _OUTLINES,
            "score": _NUMBERS,
        },
    ),
)


@given(st.one_of(st.lists(_ENTRIES, max_size=5), st.dictionaries(st.text(max_size=2), st.none()), st.text(max_size=3)))
def test_whatever_a_sidecar_lists_what_is_taken_lies_in_the_image(document: Any) -> None:
    stored = StoredObject(ImageRef("b", "k"), "e", 1, metadata={"shelf": "a"}, regions=document)
    found, regions = with_given_regions(stored, SIZE)
    RowLimits(256).images([image_row(found.ref, generation=1, metadata=found.metadata)])
    assert (found.regions, found.metadata["shelf"]) == (None, "a")
    assert has_given_regions(found.metadata) is (regions is not None)
    if regions is None:
        assert str(found.metadata["sidecar_problem"]).startswith(("regions: ", "none of "))
        return
    assert isinstance(document, list)
    assert found.metadata["sidecar_regions"] == len(regions.scores) == len(regions.masks)
    assert ("sidecar_problem" in found.metadata) is (len(regions.scores) < len(document))
    x1, y1, x2, y2 = regions.boxes_xyxy.T
    assert np.all((x1 >= 0) & (x1 < x2) & (x2 <= 40) & (y1 >= 0) & (y1 < y2) & (y2 <= 30))
    assert np.all(regions.areas_px > 0)
    assert np.all((regions.scores >= 0) & (regions.scores <= 1) & (np.diff(regions.scores, prepend=1) <= 0))
    for mask in regions.masks:
        assert mask is None or decode_rle(mask).any()


def test_regions_are_no_metadata_where_they_count_and_a_list_like_others_where_not() -> None:
    data = json.dumps({"shelf": "a", "regions": [{"bbox": [0, 0, 5, 5]}], "deep": {"regions": "x"}}).encode()
    metadata, regions = parse_sidecar_with_regions(data)
    assert (metadata, regions) == ({"shelf": "a", "deep.regions": "x"}, [{"bbox": [0, 0, 5, 5]}])
    assert ": regions" in str(parse_sidecar(data)["sidecar_problem"])
    assert parse_sidecar_with_regions(b'{"regions": null}') == ({}, None)
    for data in (b"[1]", b"{", b'{"regions": [NaN]}'):
        metadata, regions = parse_sidecar_with_regions(data)
        assert (list(metadata), regions) == (["sidecar_problem"], None)


@pytest.mark.parametrize("parse", [parse_sidecar, lambda data: parse_sidecar_with_regions(data)[0]])
def test_a_sidecar_cannot_say_that_it_gave_regions(parse: Any) -> None:
    metadata = parse(b'{"sidecar_regions": 3, "a": 1}')
    assert metadata == {"a": 1, "sidecar_problem": metadata["sidecar_problem"]}
    assert not has_given_regions({"sidecar_regions": "3"}), "an object's own metadata"


def test_a_thousand_outlines_are_read_and_no_more_metadata_than_ever() -> None:
    outline = [[round(100 + number / 7, 2) for number in range(100)]]
    data = json.dumps({"regions": [{"mask": outline}] * 1000}).encode()
    assert MAX_SIDECAR_BYTES < len(data) < MAX_REGIONS_BYTES
    assert len(parse_sidecar_with_regions(data)[1]) == 1000  # type: ignore[arg-type]
    assert "bytes, at most" in str(parse_sidecar_with_regions(b" " * (MAX_REGIONS_BYTES + 1))[0]["sidecar_problem"])
    large = json.dumps({"text": "x" * MAX_SIDECAR_BYTES}).encode()
    assert "take more than" in str(parse_sidecar_with_regions(large)[0]["sidecar_problem"])


@pytest.mark.parametrize("inner", ['{"a%d": 1}', '{"a%d": [1]}'])
def test_long_names_of_many_values_are_not_written_out(inner: str) -> None:
    """The outer name is part of each: of a sidecar of 1 MiB they would take 25 gigabytes, of this one 300 megabytes."""
    values = ", ".join((inner % number)[1:-1] for number in range(10_000))
    data = json.dumps({"n" * 30_000: 0}).replace("0}", f"{{{values}}}}}").encode()
    tracemalloc.start()
    try:
        metadata, _ = parse_sidecar_with_regions(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "take more than" in str(metadata["sidecar_problem"])
    assert peak < 20_000_000


def test_a_long_name_is_not_written_out_at_each_depth() -> None:
    depth = 300
    data = b'{"%s":%s1%s, "a": 1}' % (b"n" * 500_000, b'{"":' * depth, b"}" * depth)
    tracemalloc.start()
    try:
        metadata, _ = parse_sidecar_with_regions(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert metadata["a"] == 1
    assert str(metadata["sidecar_problem"]).startswith("left out")
    assert peak < 20_000_000


def test_what_is_wrong_with_values_and_with_regions_is_said_together() -> None:
    metadata, regions = parse_sidecar_with_regions(b'{"tags": ["x"], "regions": 3}')
    found, _ = with_given_regions(StoredObject(ImageRef("b", "k"), "e", 1, metadata=metadata, regions=regions), SIZE)
    assert str(found.metadata["sidecar_problem"]).endswith(
        ": tags; regions: expected a list, got int; the segmenter's are indexed"
    )
