"""Names, families and the zero-shot split of the pictogram sets; no package is fetched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.photographs import PHOTOGRAPHS
from training.pictograms import (
    PICTOGRAM_SETS,
    UNSEEN_SETS,
    family_of,
    is_zero_shot_family,
    load_pictograms,
    select_drawings,
    zero_shot_families,
)
from training.scenes_dataset import evaluation_source, training_source

SQUARE = '<path fill="#f00" d="M0 0h8v8H0z"/>'


def icons(*names: str, aliases: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"width": 8, "height": 8, "icons": {name: {"body": SQUARE} for name in names}, "aliases": aliases or {}}


def concepts(*sets: dict[str, Any]) -> list[str]:
    return sorted({drawing.concept for drawing in select_drawings({f"s{n}": item for n, item in enumerate(sets)})})


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("bicycle", "bicycle"),
        ("woman-biking-medium-dark-skin-tone", "biking"),
        ("person-red-hair", "person"),
        ("red-apple", "red-apple"),
        ("man", "person"),
        ("skier-tone3", "skier"),
        ("women-with-bunny-ears", "with-bunny-ears"),
        ("hairbrush", "hairbrush"),
        ("snowman", "snowman"),
    ],
)
def test_the_family_is_the_name_without_skin_tone_gender_and_hair(name: str, family: str) -> None:
    assert family_of(name) == family


def test_the_split_is_the_published_rule() -> None:
    # Recomputed from the digest's bytes: mod 5 of a 256-bit number, most significant byte first.
    names = ["banana", "red-apple", "dog", "biking", "person", "sunflower", "ghost", "été"]
    for name in names:
        remainder = 0
        for byte in hashlib.sha256(name.encode("utf-8")).digest():
            remainder = (remainder * 256 + byte) % 5
        assert is_zero_shot_family(name) == (remainder == 0), name
    assert is_zero_shot_family("banana")
    assert not is_zero_shot_family("dog")


def test_a_concept_needs_three_sets() -> None:
    assert concepts(icons("dog", "cat"), icons("dog", "cat"), icons("dog")) == ["dog"]


def test_unseen_sets_draw_the_known_concepts_alone_under_the_names_known() -> None:
    unseen = icons("dog", "unicorn-face", "zebra", aliases={"unicorn": {"parent": "unicorn-face"}})
    drawings = select_drawings({"one": unseen}, known=frozenset({"dog", "unicorn", "cat"}))
    assert [(drawing.style, drawing.concept) for drawing in drawings] == [("one", "dog"), ("one", "unicorn")]


def test_sets_under_share_alike_judge_and_never_train() -> None:
    assert all("SA" in item.licence for item in UNSEEN_SETS)
    assert not {item.style for item in UNSEEN_SETS} & {item.style for item in PICTOGRAM_SETS}
    assert not any("SA" in item.licence for item in PICTOGRAM_SETS)


def test_skin_tones_are_no_concepts_but_a_police_light_is() -> None:
    tones = icons("boxer", "boxer-dark", "boxer-medium-dark", "police-car", "police-car-light")
    assert concepts(tones, tones, tones) == ["boxer", "police-car", "police-car-light"]


def test_written_signs_flags_and_dials_are_no_concepts() -> None:
    signs = icons("flag-france", "keycap-3", "nine-oclock", "play-button", "right-arrow", "letter-a", "aries", "lion")
    assert concepts(signs, signs, signs) == ["lion"]


def test_gendered_drawings_give_way_to_the_neutral_one() -> None:
    people = icons("detective", "woman-detective", "man-dancing")
    assert concepts(people, people, people) == ["detective", "man-dancing"]


def test_sets_that_name_a_drawing_differently_agree_on_the_common_name() -> None:
    other = icons("unicorn-face", aliases={"unicorn": {"parent": "unicorn-face"}})
    mirrored = icons("dolphin-left", aliases={"dolphin": {"parent": "dolphin-left", "hFlip": True}})
    common = icons("unicorn", "dolphin")
    assert concepts(other, common, common) == ["unicorn"]
    assert concepts(mirrored, common, common) == []  # a mirrored alias is another drawing


def test_a_drawing_that_is_not_square_is_centred_in_a_square_viewbox() -> None:
    wide = {"icons": {"fish": {"body": SQUARE, "width": 8, "height": 4}}, "aliases": {}}
    drawings = select_drawings({"a": wide, "b": wide, "c": wide})
    assert [drawing.style for drawing in drawings] == ["a", "b", "c"]
    assert 'viewBox="0.0 -2.0 8 8"' in drawings[0].svg


def test_only_free_licences_without_share_alike_are_used() -> None:
    used = {item.licence for item in PICTOGRAM_SETS} | {item.licence for item in PHOTOGRAPHS}
    assert not {licence for licence in used if "SA" in licence or "NC" in licence or "ND" in licence}
    assert len({photograph.name for photograph in PHOTOGRAPHS}) == len(PHOTOGRAPHS)


def test_a_missing_cache_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m training\.pictograms"):
        load_pictograms(tmp_path)


@pytest.fixture
def caches(tmp_path: Path) -> tuple[Path, Path]:
    """Two concepts of which one is zero-shot, and seven photographs, as the builders would write them."""
    from PIL import Image

    pictograms, photographs = tmp_path / "pictograms", tmp_path / "photographs"
    pictograms.mkdir()
    (photographs / "images").mkdir(parents=True)
    rng = np.random.default_rng(5)
    drawings = np.full((12, 160, 160, 4), 255, dtype=np.uint8)
    np.save(pictograms / "pictograms.npy", drawings)
    index = {
        "styles": ["noto", "twemoji"],
        "names": ["banana", "dog", "cat", "owl", "bus", "key"],
        "concept_ids": [0, 1, 2, 3, 4, 5] * 2,
        "style_ids": [0] * 6 + [1] * 6,
    }
    (pictograms / "pictograms.json").write_text(json.dumps(index), "utf-8")
    for number in range(7):
        noise = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(photographs / "images" / f"{number}.jpg")
    return pictograms, photographs


def test_no_training_scene_shows_a_zero_shot_concept_and_evaluation_scenes_do(caches: tuple[Path, Path]) -> None:
    training, evaluation = training_source(*caches, objects=(3, 6)), evaluation_source(*caches)
    trained = {item.concept for seed in range(12) for item in training.scene(seed).objects}
    assert trained == {"dog", "cat", "owl", "bus", "key"}
    assert "banana" in {training.pictograms.names[training.pictograms.concept_ids[row]] for row in evaluation.rows}
    assert zero_shot_families(training.pictograms) == ("banana",)


def test_training_and_evaluation_share_no_photograph(caches: tuple[Path, Path]) -> None:
    training, evaluation = training_source(*caches), evaluation_source(*caches)
    assert (len(training.photographs), len(evaluation.photographs)) == (5, 2)
    shared = [a for a in training.photographs for b in evaluation.photographs if np.array_equal(a, b)]
    assert shared == []


def test_the_list_beside_the_weights_holds_zero_shot_families_only() -> None:
    listing = files("searchanything.models") / "weights" / "pico" / "zero_shot_families.txt"
    families = listing.read_text("utf-8").split()
    assert families == sorted(set(families))
    assert len(families) > 200
    assert all(int(hashlib.sha256(family.encode()).hexdigest(), 16) % 5 == 0 for family in families)
