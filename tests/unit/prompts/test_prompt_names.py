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
    ],
)
def test_shares_of_the_size_are_answered_with_pixels(written: object, said: str) -> None:
    with pytest.raises(PromptError, match=said):
        check_units(as_prompt(written), 480, 640)


@pytest.mark.parametrize("written", [(0, 0), (1, 1), (0.5, 1.5), {"foreground": (0.5, 0.5), "background": (200, 3)}])
def test_pixels_are_pixels(written: object) -> None:
    check_units(as_prompt(written), 480, 640)
