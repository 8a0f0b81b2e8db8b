"""Prompts as people write them: mappings of any usual names, OpenCV's masks, shares of the image's size."""

from __future__ import annotations

import numpy as np
import pytest

from searchanything.client.calls import prompt_document
from searchanything.core.errors import PromptError
from searchanything.prompts.prompt import Box, Mask, Points, Prompts, Text, as_prompt, check_units, describe_prompt

BOX = (100, 40, 200, 80)
WRITTEN = [
    ({"box": BOX}, Box(*BOX)),
    ({"box": list(BOX)}, Box(*BOX)),
    ({"box_xyxy": BOX}, Box(*BOX)),
    ({"boxes": [BOX]}, Box(*BOX)),
    ({"boxes_xyxy": [BOX, (1, 2, 3, 4)]}, Prompts((Box(*BOX), Box(1, 2, 3, 4)))),
    ({"point": (3, 4)}, Points(((3, 4),))),
    ({"points": [(3, 4), (5, 6)], "background": (7, 8)}, Points(((3, 4), (5, 6)), ((7, 8),))),
    ({"text": "a bag"}, Text("a bag")),
    ({"box": BOX, "point": (120, 50), "text": None}, Prompts((Box(*BOX),), ((120, 50),))),
]


@pytest.mark.parametrize(("written", "meant"), WRITTEN)
def test_the_usual_names_are_understood(written: dict[str, object], meant: object) -> None:
    assert as_prompt(written) == meant


@pytest.mark.parametrize("meant", [meant for _, meant in WRITTEN])
def test_what_an_answer_says_of_its_prompt_is_a_prompt(meant: object) -> None:
    assert as_prompt(describe_prompt(meant)) == meant


@pytest.mark.parametrize("written", [written for written, _ in WRITTEN])
def test_a_server_is_asked_the_same(written: dict[str, object]) -> None:
    """Its documents have these names, as `serve.wire` reads them."""
    sent = prompt_document(written)
    assert sent["kind"] in ("points", "mixed")
    names = {"points": {"foreground", "background", "granularity"}, "mixed": {"boxes_xyxy", "foreground", "background"}}
    assert set(sent) - {"kind", "text"} <= names[sent["kind"]]
    fields = {name: value for name, value in sent.items() if name != "kind"}
    assert as_prompt(fields) == as_prompt(written)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"bx": BOX}, "'bx'"),
        ({"box": BOX, "boxes": [BOX]}, "got two"),
        ({"point": (1, 2), "foreground": (1, 2)}, "got two"),
        ({"mask": np.ones((2, 2), dtype=bool), "text": "a"}, "cannot be combined"),
        ({"background": (1, 2)}, "foreground point"),
    ],
)
def test_other_names_are_refused_in_words(written: dict[str, object], said: str) -> None:
    with pytest.raises(PromptError, match=said):
        as_prompt(written)


MASK = np.zeros((60, 80), dtype=np.uint8)
MASK[10:30, 20:50] = 255


@pytest.mark.parametrize(
    "given",
    [MASK, MASK[..., None], np.repeat(MASK[..., None], 3, axis=2), MASK > 0, MASK // 255, {"mask": MASK}],
    ids=["0 and 255", "(H, W, 1)", "as imread reads it", "bool", "0 and 1", "in a mapping"],
)
def test_masks_of_opencv_are_masks(given: object) -> None:
    prompt = as_prompt(given)
    assert isinstance(prompt, Mask)
    assert (prompt.mask == (MASK > 0)).all()


def test_the_smallest_masks_are_masks() -> None:
    assert as_prompt({"mask": np.array([[255]], dtype=np.uint8)}).mask.tolist() == [[True]]
    assert as_prompt(np.array([[0, 0, 0, 0, 9]])).mask.tolist() == [[False] * 4 + [True]]


@pytest.mark.parametrize(
    "given",
    [np.array([[0, 1, 2]]), np.array([[0, -1]]), np.array([[-1, -1]]), np.array([[0.0, 1.0]]), np.zeros((0, 5), "u1")],
    ids=["labels", "0 and -1", "-1", "real numbers", "nothing"],
)
def test_arrays_that_can_be_read_in_several_ways_are_no_masks(given: np.ndarray) -> None:
    with pytest.raises(PromptError, match="boolean mask"):
        as_prompt({"mask": given})


def test_many_points_are_no_mask() -> None:
    pairs = [(number, number + 1) for number in range(9)]
    assert as_prompt(np.array(pairs)) == Points(pairs)


def test_a_picture_is_no_mask() -> None:
    picture = np.repeat(MASK[..., None], 3, axis=2)
    picture[0, 0] = (1, 2, 3)
    with pytest.raises(PromptError, match="shape"):
        as_prompt(picture)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ((0.5, 0.25), r"give \(320, 120\)"),
        ({"foreground": [(0.5, 0.25), (1, 0)]}, r"give \(320, 120\)"),
        ((0.1, 0.2, 0.5, 0.6), r"give \(64, 96, 320, 288\)"),
        ((0, 0, 0.5, 1), r"give \(0, 0, 320, 480\)"),
        ([(0, 0, 200, 100), (0.1, 0.2, 0.5, 0.6)], r"give \(64, 96, 320, 288\)"),
        ({"box": (0.1, 0.2, 0.5, 0.6), "text": "a bag"}, r"give \(64, 96, 320, 288\)"),
    ],
)
def test_shares_of_the_size_are_answered_with_pixels(written: object, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        check_units(as_prompt(written), 480, 640)


@pytest.mark.parametrize(
    "written",
    [
        (0, 0),
        (1, 1),
        (0.5, 1.5),
        {"foreground": (0.5, 0.5), "background": (200, 3)},
        (0, 0, 1, 1),
        (0.5, 0.5, 1, 1.5),
        (0.5, 0, 300, 200),
        (-0.5, 0, 1, 1),
        [(0.5, 0, 300, 200), (0, 0, 1, 1)],
    ],
)
def test_pixels_are_pixels(written: object) -> None:
    check_units(as_prompt(written), 480, 640)


@pytest.mark.parametrize("size", [(1, 640), (640, 1)])
def test_of_an_image_one_pixel_high_or_wide_a_part_of_a_pixel_may_be_meant(size: tuple[int, int]) -> None:
    check_units(Points((0.5, 0.25)), *size)
    check_units(Box(0, 0, 0.5, 1), *size)
    with pytest.raises(PromptError, match="shares"):
        check_units(Points((0.5, 0.25)), 2, 640)
    with pytest.raises(PromptError, match="shares"):
        check_units(Box(0, 0, 0.5, 1), 640, 2)


@pytest.mark.parametrize(
    "prompt",
    [
        Prompts(BOX, text="a bag"),
        Prompts(BOX, foreground=(120, 50)),
        Prompts(BOX, background=(120, 50)),
        Prompts(foreground=(120, 50), text="a bag"),
        Prompts(background=(120, 50), text="a bag"),
        Prompts([BOX, BOX]),
        Prompts([BOX] * 4),
    ],
)
def test_nothing_of_what_is_given_together_is_left_out(prompt: Prompts) -> None:
    assert as_prompt(prompt) == prompt
    assert as_prompt(describe_prompt(prompt)) == prompt
