"""Street photographs as training images and as cutouts: masks go with their pixels, and the judged fifth stays out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from training.scenes_dataset import write_labelled
from training.street_scenes import regions_of, street_cutouts, street_views, views_of

RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Photographs 5 (judged, left out) and 7: a red coat beside a blue bag, each in its label's colour."""
    labels = np.zeros((120, 160), np.uint8)
    labels[20:100, 20:80], labels[40:90, 100:140] = 1, 2
    pixels = np.full((120, 160, 3), 90, np.uint8)
    pixels[labels == 1], pixels[labels == 2] = RED, BLUE
    for number in (5, 7):
        Image.fromarray(labels).save(tmp_path / f"{number:04d}.png")
        Image.fromarray(pixels).save(tmp_path / f"{number:04d}.jpg", quality=100, subsampling=0)
    (tmp_path / "labels.json").write_text(json.dumps(["null", "coat", "bag"]))
    return tmp_path


def test_regions_are_the_person_and_its_parts(street: Path) -> None:
    labels = np.asarray(Image.open(street / "0007.png"))
    person, coat, bag = regions_of(labels)
    assert (person == (labels > 0)).all()
    assert (coat == (labels == 1)).all()
    assert (bag == (labels == 2)).all()
    assert regions_of(np.zeros((9, 9), np.uint8)) == []


def test_masks_go_with_their_pixels_at_every_scale(street: Path) -> None:
    views = list(views_of(street / "0007.png"))
    assert len(views) == 4
    assert len({image.shape for image, _ in views}) > 1
    for image, (_, coat, bag) in views:
        assert coat.shape == image.shape[:2]
        for mask, channel in ((coat, 0), (bag, 2)):
            coloured = image[..., channel].astype(int) - image[..., 2 - channel] > 85
            either = (mask | coloured).sum()
            assert either == 0 or (mask & coloured).sum() / either > 0.9
    again = [image for image, _ in views_of(street / "0007.png")]
    assert all(np.array_equal(one, image) for one, (image, _) in zip(again, views, strict=True))


def test_the_judged_fifth_is_left_out(street: Path) -> None:
    assert [name for name, _ in street_views(street, [0])] == [f"street0007_{number}" for number in range(4)]
    with pytest.raises(IndexError):
        list(street_views(street, [1]))
    assert len(street_cutouts(street)) == 3  # of one photograph: the person, the coat, the bag


def test_cutouts_have_premultiplied_colours(street: Path) -> None:
    _, coat, bag = street_cutouts(street)
    assert coat.image.shape == (80, 60, 4)
    assert bag.image.shape == (50, 40, 4)
    person = street_cutouts(street)[0].image
    assert (person[person[..., 3] == 0] == 0).all()
    np.testing.assert_allclose(bag.image[25, 20], (*BLUE, 255), atol=6)


def test_labels_are_polygons_in_shares_of_the_image(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    mask, crumb = (np.zeros((50, 100), np.bool_) for _ in range(2))
    mask[10:30, 20:60] = True
    crumb[0:3, 0:3] = True
    write_labelled(tmp_path, "a", np.zeros((50, 100, 3), np.uint8), [mask, crumb])
    (line,) = (tmp_path / "labels" / "a.txt").read_text().splitlines()
    corners = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * [100, 50]
    again = cv2.fillPoly(np.zeros((50, 100), np.uint8), [np.round(corners).astype(np.int32)], 1)
    assert (again.astype(bool) & mask).sum() / (again.astype(bool) | mask).sum() > 0.97
