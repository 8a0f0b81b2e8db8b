"""The whole evaluation on drawn scenes: figures worked out by hand, and the protocol stated once more with loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.models import PALETTE, drawn, fake_encoder
from PIL import Image
from scipy.ndimage import distance_transform_edt

from searchanything.core.errors import UsageError
from searchanything.core.geometry import decode_rle, encode_rle
from searchanything.core.types import RGBImage
from searchanything.encode.encoder import Encoder
from searchanything.encode.region_policy import RegionPolicy
from searchanything.evaluation.overlaps import paired, region_ious
from searchanything.evaluation.running import EvaluationOptions, evaluate
from searchanything.evaluation.truth import Instance, TrueImage, Truth
from searchanything.prompts.prompt import Box, Points

SIDE = 320  # at an input of 64 px a mask cell is 20 px wide
LEFT, RIGHT, LOW = (20, 20, 140, 140), (180, 20, 300, 140), (20, 180, 120, 280)
PLAIN = EvaluationOptions(ablations=False)
Box4 = tuple[int, int, int, int]


def instance(category: str, box: Box4, **more: Any) -> Instance:
    """A rectangle as it was drawn."""
    x1, y1, x2, y2 = box
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[y1:y2, x1:x2] = True
    sides = (float(x1), float(y1), float(x2), float(y2))
    return Instance(category, sides, float(mask.sum()), encode_rle(mask), **more)


def saved(folder: Path, images: Sequence[RGBImage], instances: Sequence[Sequence[Instance]]) -> Truth:
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return Truth(tuple(TrueImage(f"{number}.png", SIDE, SIDE, tuple(of)) for number, of in enumerate(instances)))


def image(**boxes: Box4) -> RGBImage:
    return drawn(SIDE, SIDE, **boxes)


def test_what_is_found_and_kept_apart_is_perfect(tmp_path: Path) -> None:
    truth = saved(
        tmp_path,
        [image(red=LEFT, blue=RIGHT), image(red=RIGHT, green=LOW), image(blue=LEFT), image()],
        [
            [instance("red", LEFT), instance("blue", RIGHT)],
            [instance("red", RIGHT), instance("green", LOW)],
            [instance("blue", LEFT)],
            [],
        ],
    )
    report = evaluate(truth, tmp_path, fake_encoder(), PLAIN).report
    assert report["segmentation"] == {"recall_iou50": 1.0, "recall_iou75": 1.0}
    assert report["prompts"] == {"box": 1.0, "point": 1.0, "text": 1.0, "naming": 1.0}
    for space in ("float", "bits_256", "bits_64"):
        assert report["retrieval"][space]["map_10"] == 1.0
        assert report["retrieval"][space]["precision_1"] == 1.0
        assert report["retrieval"][space]["precision_10"] == 0.1  # there is but one to find
    assert report["funnel"]["left"] == 1.0
    assert report["dataset"]["images"] == 4
    assert report["dataset"]["instances"] == 5
    assert report["dataset"]["answerable"] == 4  # the green one has none of its kind in another image
    assert report["failures"] == []


def test_an_instance_without_a_region_is_a_miss(tmp_path: Path) -> None:
    """Three cups, one of them in a colour that the segmenter does not see."""
    unseen = image()
    unseen[LEFT[1] : LEFT[3], LEFT[0] : LEFT[2]] = 90
    truth = saved(
        tmp_path,
        [image(red=LEFT), image(red=RIGHT), unseen],
        [[instance("cup", LEFT)], [instance("cup", RIGHT)], [instance("cup", LEFT)]],
    )
    report = evaluate(truth, tmp_path, fake_encoder(), PLAIN).report
    assert report["segmentation"]["recall_iou50"] == pytest.approx(2 / 3, abs=1e-5)
    assert report["prompts"]["box"] == 1.0  # the box itself stands in, and fits
    assert report["prompts"]["point"] == pytest.approx(2 / 3, abs=1e-5)
    # Each red cup finds the other one of two; the unseen one finds both.
    assert report["retrieval"]["bits_64"]["map_10"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3, abs=1e-5)
    assert report["funnel"]["not_segmented"] == pytest.approx(1 / 3, abs=1e-5)
    assert report["funnel"]["not_kept"] == 0
    assert report["funnel"]["float"] == 0
    assert report["dataset"]["indexed_regions"] == 2


def test_where_the_segmenter_sees_nothing_all_is_missed(tmp_path: Path) -> None:
    """Two cups in a colour that it does not see: an index of no region."""
    unseen = image()
    unseen[LEFT[1] : LEFT[3], LEFT[0] : LEFT[2]] = 90
    truth = saved(tmp_path, [unseen, unseen], [[instance("cup", LEFT)], [instance("cup", LEFT)]])
    report = evaluate(truth, tmp_path, fake_encoder(), PLAIN).report
    assert report["dataset"]["indexed_regions"] == 0
    assert report["dataset"]["answerable"] == 2
    assert report["segmentation"] == {"recall_iou50": 0.0, "recall_iou75": 0.0}
    for space in ("float", "bits_64", "bits_64_rescored", "bits_256"):
        assert {value for name, value in report["retrieval"][space].items() if name != "ci95"} == {0.0}
    assert {name: value for name, value in report["funnel"].items() if value} == {"not_segmented": 1.0}


def test_a_region_that_is_not_kept_is_lost_there(tmp_path: Path) -> None:
    truth = saved(
        tmp_path,
        [image(red=LEFT), image(red=LOW, blue=RIGHT)],
        [[instance("cup", LEFT)], [instance("cup", LOW)]],
    )
    report = evaluate(truth, tmp_path, fake_encoder(regions=1), PLAIN).report
    assert report["segmentation"]["recall_iou50"] == 1.0
    assert report["funnel"]["not_segmented"] == 0
    assert report["funnel"]["not_kept"] == 0.5  # the smaller red one of the second image
    assert report["retrieval"]["float"]["map_10"] == 0.5


def test_a_hit_on_a_crowd_counts_neither_way(tmp_path: Path) -> None:
    """The nearest region lies on a crowd of cups: with it ignored the next one comes first."""
    images = [image(red=LEFT), image(red=RIGHT), image(yellow=LEFT)]
    single = [[instance("cup", LEFT)], [instance("cup", RIGHT)], [instance("cup", LEFT)]]
    crowd = [single[0], [instance("cup", RIGHT, crowd=True)], single[2]]
    with_crowd = evaluate(saved(tmp_path, images, crowd), tmp_path, fake_encoder(), PLAIN).report
    assert with_crowd["dataset"]["crowds"] == 1
    assert with_crowd["dataset"]["instances"] == 2
    assert with_crowd["retrieval"]["float"]["precision_1"] == 1.0
    assert with_crowd["retrieval"]["float"]["map_10"] == 1.0


def test_a_crowd_that_is_not_kept_is_no_row_to_leave_out(tmp_path: Path) -> None:
    """It is the last of all rows, behind those of the index: one region of each image is kept."""
    truth = saved(
        tmp_path,
        [image(red=LEFT), image(red=RIGHT), image(red=LEFT, yellow=LOW)],
        [[instance("cup", LEFT)], [instance("cup", RIGHT)], [instance("cup", LOW, crowd=True)]],
    )
    report = evaluate(truth, tmp_path, fake_encoder(regions=1), PLAIN).report
    assert report["dataset"]["crowds"] == 1
    assert report["dataset"]["indexed_regions"] == 3
    assert report["retrieval"]["float"]["recall_10"] == 1.0


def test_only_hits_with_another_value_count_where_that_is_asked(tmp_path: Path) -> None:
    """Two red cups in one style, a yellow one in another, a blue plate: what is alike is skipped."""
    styles = {"noto": "noto", "flat": "flat"}
    truth = saved(
        tmp_path,
        [image(red=LEFT), image(red=RIGHT), image(yellow=LEFT), image(blue=LEFT)],
        [
            [instance("cup", LEFT, attributes={"style": styles["noto"]})],
            [instance("cup", RIGHT, attributes={"style": styles["noto"]})],
            [instance("cup", LEFT, attributes={"style": styles["flat"]})],
            [instance("plate", LEFT, attributes={"style": styles["flat"]})],
        ],
    )
    options = replace(PLAIN, group_by=("style",), other="style")
    report = evaluate(truth, tmp_path, fake_encoder(), options).report
    noto, flat = report["groups"]["style"]["noto"], report["groups"]["style"]["flat"]
    assert report["retrieval"]["float"]["precision_1"] == 1.0
    assert noto["instances"] == flat["instances"] == 2
    assert noto["retrieval_other"]["float"]["recall_10"] == 1.0  # one each: the yellow one
    assert noto["retrieval_other"]["float"]["precision_1"] == 1.0  # before the blue plate
    assert flat["retrieval_other"]["float"]["precision_10"] == pytest.approx(0.2)


def test_sizes_go_by_the_area_of_the_annotation(tmp_path: Path) -> None:
    truth = saved(
        tmp_path,
        [image(red=LEFT), image(red=RIGHT)],
        [[replace(instance("cup", LEFT), area_px=1024.0)], [replace(instance("cup", RIGHT), area_px=1025.0)]],
    )
    sizes = evaluate(truth, tmp_path, fake_encoder(), PLAIN).report["by_size"]
    counts = {name: part["instances"] for name, part in sizes.items()}
    assert counts == {"small": 1, "medium": 1, "large": 0, "side_96_px_or_more": 2}
    assert sizes["large"]["segmentation"]["recall_iou50"] is None


def test_images_that_cannot_be_read_are_listed_and_left_out(tmp_path: Path) -> None:
    truth = saved(
        tmp_path,
        [image(red=LEFT), image(red=RIGHT), image(red=LEFT), image(red=LEFT)],
        [[instance("cup", LEFT)], [instance("cup", RIGHT)], [instance("cup", LEFT)], [instance("cup", LEFT)]],
    )
    (tmp_path / "2.png").unlink()
    Image.fromarray(image()[:40]).save(tmp_path / "3.png")
    reported: list[tuple[int, int, int]] = []
    report = evaluate(truth, tmp_path, fake_encoder(), PLAIN, progress=lambda *counts: reported.append(counts)).report
    assert [one["key"] for one in report["failures"]] == ["2.png", "3.png"]
    assert "cannot be read" in report["failures"][0]["message"]
    assert "expected 320 x 320 pixels" in report["failures"][1]["message"]
    assert report["dataset"]["images"] == 2
    assert report["dataset"]["failed"] == 2
    assert report["retrieval"]["float"]["map_10"] == 1.0  # of what could be read
    assert reported == [(4, 4, 2)]


def test_lengths_that_the_layer_lacks_are_fitted_and_said_to_be(tmp_path: Path) -> None:
    cups = [[instance("cup", LEFT)], [instance("cup", RIGHT)]]
    truth = saved(tmp_path, [image(red=LEFT), image(red=RIGHT)] * 3, cups * 3)
    report = evaluate(truth, tmp_path, fake_encoder(bits=128), PLAIN).report
    assert [*report["spaces"]] == ["float", "float_weighted", "bits_128", "bits_128_rescored", "bits_256", "bits_64"]
    assert "the index's own layer, untrained" in report["spaces"]["bits_128"]
    assert "fitted here" in report["spaces"]["bits_64"]
    assert report["bits"] == 128
    for codes in ("bits_128", "bits_128_rescored", "bits_64"):
        for floats in ("float", "float_weighted"):
            assert report["retrieval"][f"{codes}_over_{floats}"] == 1.0
            assert report["ci95"][f"retrieval.{codes}_over_{floats}"] == [1.0, 1.0]
    assert report["retrieval"]["bits_128"]["map_10_median_category"] == 1.0
    assert report["ci95"]["retrieval.bits_128.map_10_median_category"] == [1.0, 1.0]


def test_names_are_asked_as_people_write_them_and_once_an_image(tmp_path: Path) -> None:
    """Of two reds on one image one is hidden from the segmenter's eyes: a text may mean either."""
    truth = saved(
        tmp_path,
        [image(red=LEFT, blue=RIGHT), image(green=LEFT)],
        [[instance("a_red-thing", LEFT), instance("a_red-thing", LOW)], [instance("blue", RIGHT)]],
    )
    report = evaluate(truth, tmp_path, fake_encoder(), PLAIN).report
    assert report["prompts"]["text"] == 0.5  # red is found on the first image, there is no blue on the second
    assert "prompts.text" not in report["ci95"], "two images"


def test_intervals_are_of_drawn_images(tmp_path: Path) -> None:
    """Twelve cups on seven images, all of them found: 7 of 7, and five images of a group have no interval."""
    noto, flat = (instance("cup", box, attributes={"style": name}) for box, name in ((LEFT, "noto"), (RIGHT, "flat")))
    truth = saved(
        tmp_path,
        [image(red=LEFT, yellow=RIGHT)] * 5 + [image(red=LEFT)] * 2,
        [[noto, flat]] * 5 + [[noto]] * 2,
    )
    report = evaluate(truth, tmp_path, fake_encoder(), replace(PLAIN, group_by=("style",))).report
    groups, ends = report["groups"]["style"], report["ci95"]
    assert (groups["noto"]["instances"], groups["flat"]["instances"]) == (7, 5)
    assert report["prompts"]["box"] == groups["flat"]["prompts"]["box"] == 1.0
    assert ends["prompts.box"] == ends["groups.style.noto.prompts.box"] == [0.64567, 1.0]  # 7 / (7 + 1.96²)
    assert not [name for name in ends if name.startswith("groups.style.flat.")]
    assert ends["funnel.hash"] == [0.0, 0.0]  # a difference, which may be a gain


def test_queries_are_drawn_with_their_image(tmp_path: Path) -> None:
    """Six images with two cups each, of which the segmenter sees both or none: six draws, not twelve."""
    unseen = image()
    for x1, y1, x2, y2 in (LEFT, RIGHT):
        unseen[y1:y2, x1:x2] = 90
    cups = [instance("cup", LEFT), instance("cup", RIGHT)]
    truth = saved(tmp_path, [image(red=LEFT, yellow=RIGHT)] * 3 + [unseen] * 3, [cups] * 6)
    ends = evaluate(truth, tmp_path, fake_encoder(), PLAIN).report["ci95"]
    assert ends["segmentation.recall_iou50"] == [0.16667, 0.83333]  # drawn one by one: 0.25 to 0.75


def test_void_pixels_belong_to_nobody() -> None:
    """A region of 5 x 5 cells; the instance is its left half, the right half is void or not."""
    pixels = image(red=(20, 20, 140, 120))
    segmentation = fake_encoder().segmenter.segment([pixels])[0]
    half = instance("cup", (20, 20, 80, 120))
    void = np.zeros((SIDE, SIDE), dtype=np.bool_)
    void[20:120, 80:140] = True
    judged = [TrueImage("a", SIDE, SIDE, (half,), border) for border in (None, encode_rle(void))]
    without, with_void = (region_ious(segmentation.letterbox, segmentation.masks, one) for one in judged)
    assert without == pytest.approx(0.5, abs=0.01)
    assert with_void == pytest.approx(1.0, abs=0.02)  # the grid rounds corners


def test_regions_and_instances_pair_up_one_to_one() -> None:
    """The first region fits both instances; the better pair takes it, and the other has what is left."""
    ious = np.array([[0.8, 0.9], [0.6, 0.7], [0.0, 0.0]])
    assert paired(ious).tolist() == [0.6, 0.9]
    assert paired(np.zeros((0, 2))).tolist() == [0, 0]


def test_nothing_to_evaluate_says_why(tmp_path: Path) -> None:
    truth = Truth((TrueImage("none.png", SIDE, SIDE, (instance("cup", LEFT),)),))
    with pytest.raises(
        UsageError, match=r"no instance on 0 readable images; 1 image could not be read, the first: .*none\.png"
    ):
        evaluate(truth, tmp_path, fake_encoder(), PLAIN)
    with pytest.raises(UsageError, match="1 annotated image, and no instance"):
        evaluate(saved(tmp_path, [image(red=LEFT)], [[]]), tmp_path, fake_encoder(), PLAIN)


def test_ablations_leave_the_figures_alone_and_add_theirs(tmp_path: Path) -> None:
    images = [image(red=LEFT, blue=(200, 40, 220, 60)), image(red=RIGHT, blue=(40, 40, 60, 60))]
    truth = saved(tmp_path, images, [[instance("cup", LEFT)], [instance("cup", RIGHT)]])
    plain = evaluate(truth, tmp_path, fake_encoder(), PLAIN).report
    full = evaluate(truth, tmp_path, fake_encoder(), replace(PLAIN, ablations=True)).report
    assert full["retrieval"] == plain["retrieval"]
    assert plain["ablations"] == {}
    policies = full["ablations"].pop("policies")
    assert {*full["ablations"]} == {
        *("mask_features_off", "centred", "crops_masked", "crops_context", "crops_box", "index_without_background")
    }
    assert {*policies} == {f"{name}_{count}" for name in ("largest", "stratified") for count in (25, 50, 100)}
    kept = policies["largest_25"]
    assert kept["regions_per_image"] == 2.0
    assert kept["instances_indexed"] == 1.0
    stored = _stored_bytes(fake_encoder(), images)
    assert kept["stored_bytes_per_image"] == stored / 2
    assert kept["instances_indexed_per_kib"] == pytest.approx(1024 / (stored / 2), abs=1e-4)


def _stored_bytes(encoder: Encoder, images: Sequence[RGBImage]) -> int:
    encoded = encoder.encode_images(images)
    return sum(one.codes.nbytes + sum(len(mask.counts) for mask in one.masks) for one in encoded)


@pytest.mark.parametrize("seed", range(2))
def test_retrieval_agrees_with_a_statement_in_loops(tmp_path: Path, seed: int) -> None:
    images, instances = _random_scenes(np.random.default_rng(seed))
    encoder = replace(fake_encoder(), policy=RegionPolicy("largest", 3))
    truth = saved(tmp_path, images, instances)
    report = evaluate(truth, tmp_path, encoder, replace(PLAIN, other="style", seed=seed)).report
    index = _index_in_loops(encoder, images, instances, seed=seed)
    for section, other in (("retrieval", False), ("retrieval_other", True)):
        for space in ("bits_64", "bits_64_rescored"):
            expected = _in_loops(encoder, images, instances, index, other=other, rescored=space != "bits_64")
            got = report[section][space]
            assert got["map_10"] == pytest.approx(expected["map_10"], abs=1e-5)
            assert got["recall_10"] == pytest.approx(expected["recall_10"], abs=1e-5)
            assert 0 < expected["map_10"] < 1


def test_prompts_agree_with_queries_one_by_one(tmp_path: Path) -> None:
    images, instances = _random_scenes(np.random.default_rng(9))
    encoder = fake_encoder()
    report = evaluate(saved(tmp_path, images, instances), tmp_path, encoder, PLAIN).report
    box, point = [], []
    for pixels, of in zip(images, instances, strict=True):
        for one in of:
            mask = decode_rle(one.mask)
            depths = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            row, column = np.unravel_index(int(depths.argmax()), mask.shape)
            for right, prompt in ((box, Box(*one.box_xyxy)), (point, Points(((column + 0.5, row + 0.5),)))):
                query = encoder.encode_query(pixels, prompt)
                chosen = query.segmentation.letterbox.image_masks(query.choice.mask[None])[0]
                right.append(query.choice.kind == "region" and _iou(chosen, mask) >= 0.5)
    assert report["prompts"]["box"] == pytest.approx(np.mean(box), abs=1e-5)
    assert report["prompts"]["point"] == pytest.approx(np.mean(point), abs=1e-5)
    assert 0 < np.mean(point) < 1


def _random_scenes(rng: np.random.Generator) -> tuple[list[RGBImage], list[list[Instance]]]:
    """Rectangles that overlap; some are annotated too small, some not at all; colours and categories go together."""
    images, instances = [], []
    colours = [*PALETTE][:4]
    for _ in range(8):
        boxes: dict[str, Box4] = {}
        for colour in rng.permutation(colours)[: rng.integers(2, 5)].tolist():
            x, y = (20 * rng.integers(1, 9, 2)).tolist()
            width, height = (20 * rng.integers(5, 8, 2)).tolist()
            boxes[colour] = (x, y, min(x + width, SIDE), min(y + height, SIDE))
        pixels = image(**boxes)
        of = []
        for colour, box in boxes.items():
            mask = (pixels == PALETTE[colour]).all(axis=2)
            if rng.random() < 0.15 or not mask.any():
                continue
            if rng.random() < 0.2:
                mask[: box[1] + (box[3] - box[1]) * 2 // 3] = False
                if not mask.any():
                    continue
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            tight = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            category = colour if rng.random() < 0.7 else colours[int(rng.integers(4))]
            style = {"style": ("noto", "flat")[int(rng.integers(2))]}
            of.append(Instance(category, tight, float(mask.sum()), encode_rle(mask), attributes=style))
        images.append(pixels)
        instances.append(of)
    return images, instances


Row = tuple[int, bytes, list[float]]  # of an index: image, code, IoU with each instance of its image


def _index_in_loops(
    encoder: Encoder, images: Sequence[RGBImage], instances: Sequence[Sequence[Instance]], *, seed: int
) -> list[Row]:
    """What the index holds, in the order that settles equal distances."""
    index: dict[int, Row] = {}
    number = 0
    for place, pixels in enumerate(images):
        segmentation = encoder.segmenter.segment([pixels])[0]
        codes = encoder.encode_images([pixels])[0].codes
        truths = [decode_rle(one.mask) for one in instances[place]]
        for rank, row in enumerate(encoder.policy.keep(segmentation).tolist()):
            mask = segmentation.letterbox.image_masks(segmentation.masks[[row]])[0]
            index[number + row] = place, codes[rank].tobytes(), [_iou(mask, truth) for truth in truths]
        choices = [encoder.encode_query(pixels, Box(*one.box_xyxy)).choice for one in instances[place]]
        number += len(segmentation.scores) + sum(choice.rule == "box/itself" for choice in choices)
    return [index[row] for row in np.random.default_rng(seed).permutation(sorted(index)).tolist()]


def _in_loops(
    encoder: Encoder,
    images: Sequence[RGBImage],
    instances: Sequence[Sequence[Instance]],
    index: Sequence[Row],
    *,
    other: bool,
    rescored: bool,
) -> dict[str, float]:
    """docs/evaluation.md for codes, one query after another."""
    precisions, recalls = [], []
    for place, pixels in enumerate(images):
        for query in instances[place]:
            wanted = {
                (n, m)
                for n, of in enumerate(instances)
                for m, one in enumerate(of)
                if n != place
                and one.category == query.category
                and not (other and one.attributes["style"] == query.attributes["style"])
            }
            if not wanted:
                continue
            asked = encoder.encode_query(pixels, Box(*query.box_xyxy))
            code, values = asked.code.tobytes(), asked.projection
            flags, found = [], set()
            ranked = sorted((row for row in index if row[0] != place), key=lambda row: _distance(row[1], code))
            if rescored:
                ranked.sort(key=lambda row: -round(float(values @ _signs(row[1])), 4))
            for n, _, overlaps in ranked:
                same = [m for m, one in enumerate(instances[n]) if one.category == query.category]
                best = max((m for m in same if overlaps[m] >= 0.5), key=lambda m: overlaps[m], default=None)
                if best is not None and (n, best) not in wanted:
                    continue  # of the query's own style: skipped
                flags.append(best is not None and (n, best) not in found)
                found |= {(n, best)}
            flags = flags[:10]
            total = sum(sum(flags[: rank + 1]) / (rank + 1) for rank, right in enumerate(flags) if right)
            precisions.append(total / min(10, len(wanted)))
            recalls.append(sum(flags) / len(wanted))
    return {"map_10": float(np.mean(precisions)), "recall_10": float(np.mean(recalls))}


def _signs(code: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(code, dtype=np.uint8)).astype(np.float64) * 2 - 1


def _distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())
