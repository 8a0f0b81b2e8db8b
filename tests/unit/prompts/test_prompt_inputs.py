"""What people write for a prompt: what is understood, what is refused, and how prompts describe themselves."""

from __future__ import annotations

import numpy as np
import pytest

from searchanything.core.errors import PromptError
from searchanything.prompts.prompt import (
    Box,
    Mask,
    Points,
    Prompt,
    Prompts,
    Text,
    WholeImage,
    as_prompt,
    describe_prompt,
)

BOX_FIELDS = ("x1", "y1", "x2", "y2")
MASK = np.eye(4, dtype=np.bool_)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (None, WholeImage()),
        ("a red apple", Text("a red apple")),
        ((3, 4), Points((3, 4))),
        ([3.5, 4], Points((3.5, 4))),
        (np.array([3, 4]), Points((3, 4))),
        (np.array([3, 4], dtype=np.uint8), Points((3, 4))),
        ([(3, 4)], Points((3, 4))),
        ([(3, 4), (5, 6)], Points(((3, 4), (5, 6)))),
        (np.array([[3, 4], [5, 6], [7, 8]]), Points(((3, 4), (5, 6), (7, 8)))),
        ((1, 2, 3, 4), Box(1, 2, 3, 4)),
        ([[1, 2, 3, 4]], Box(1, 2, 3, 4)),
        ([(1, 2, 3, 4), (5, 6, 7, 8)], Prompts(((1, 2, 3, 4), (5, 6, 7, 8)))),  # type: ignore[arg-type]
        ({"boxes": (1, 2, 3, 4)}, Box(1, 2, 3, 4)),
        ({"text": "apple"}, Text("apple")),
        ({"boxes": [], "foreground": (3, 4)}, Points((3, 4))),
        (
            {"boxes": [Box(1, 2, 3, 4)], "foreground": (3, 4), "background": (5, 6), "text": "apple"},
            Prompts((Box(1, 2, 3, 4),), ((3, 4),), ((5, 6),), "apple"),
        ),
        (Prompts(boxes=Box(1, 2, 3, 4)), Box(1, 2, 3, 4)),  # type: ignore[arg-type]
        (Prompts(foreground=(3, 4), background=(5, 6)), Points((3, 4), (5, 6))),  # type: ignore[arg-type]
        (np.array([1, 2, 3, 4], dtype=np.float32), Box(1, 2, 3, 4)),
        ({"foreground": (3, 4)}, Points((3, 4))),
        ({"foreground": (3, 4), "background": np.array([], dtype=object)}, Points((3, 4))),
        (
            {"foreground": [[3, 4]], "background": [5, 6], "granularity": "part"},
            Points((3, 4), (5, 6), "part"),
        ),
        ({"foreground": [3, 4], "rule": "fastsam"}, Points((3, 4), rule="fastsam")),
        (Box(1, 2, 3, 4), Box(1, 2, 3, 4)),
        (WholeImage(), WholeImage()),
    ],
)
def test_what_people_write_is_understood(written: object, meant: Prompt) -> None:
    assert as_prompt(written) == meant


def test_a_boolean_array_is_a_mask() -> None:
    prompt = as_prompt(MASK)
    assert isinstance(prompt, Mask)
    assert np.array_equal(prompt.mask, MASK)
    assert not np.shares_memory(prompt.mask, MASK), "the caller may use it again"
    assert as_prompt(prompt) is prompt


@pytest.mark.parametrize(
    "written",
    [
        "",
        "   \n\t",
        5,
        3.5,
        True,
        np.float64(3),
        np.array(5),
        (),
        [],
        [[]],
        (1,),
        (1, 2, 3),
        (1, 2, 3, 4, 5),
        [(1, 2, 3)],
        [(1, 2), (3,)],
        (4, 3, 2, 1),
        (1, 1, 1, 5),
        (1, 1, 5, 1),
        (1, float("nan")),
        (1, float("inf")),
        (1, 2, 3, float("inf")),
        (float("-inf"), 2, 3, 4),
        (float("nan"), 2, 3, 4),
        [(1, 2), (3, float("nan"))],
        (None, 1),
        (True, False),
        [[True, False], [False, True]],
        ("1", "2"),
        ["apple", "pear"],
        np.array(["1", "2"]),
        np.array([1 + 1j, 2]),
        (10**400, 1),
        b"ab",
        b"12",
        {1, 2},
        {},
        {"foreground": None},
        {"foreground": []},
        {"foreground": [1, 2, 3]},
        {"foreground": [(1, 2, 3)]},
        {"foreground": "ab"},
        {"foreground": (1, 2), "colour": "red"},
        {"foreground": (1, 2), 5: 6},
        {"background": (1, 2)},
        {"boxes": []},
        {"boxes": [], "background": (1, 2)},
        {"boxes": (1, 2, 3)},
        {"boxes": [(1, 2, 3, 4), (1, 2)]},
        {"boxes": "abcd"},
        {"boxes": None},
        {"text": ""},
        {"text": " ", "foreground": (1, 2)},
        {"text": "apple", "granularity": "part"},
        {"text": "apple", "foreground": (1, 2), "rule": "fastsam"},
        [(1, 2, 3, 4), (4, 3, 2, 1)],
        [Box(1, 2, 3, 4), Points((1, 2))],
        (Text("apple"), Box(1, 2, 3, 4)),
        {"foreground": (1, 2), "granularity": "huge"},
        {"foreground": (1, 2), "granularity": ["part"]},
        {"foreground": (1, 2), "rule": "sam"},
        {"foreground": (1, 2), "rule": "fastsam", "granularity": "part"},
        {"foreground": (1, 2), "background": [(1, "x")]},
        np.zeros((4, 4), dtype=np.bool_),
        np.ones((2, 4, 4), dtype=np.bool_),
        np.ones(4, dtype=np.bool_),
        np.ones((4, 4), dtype=np.uint8),
        object(),
    ],
    ids=repr,
)
def test_what_cannot_be_meant_is_refused(written: object) -> None:
    with pytest.raises(PromptError):
        as_prompt(written)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mask([[True]]), "boolean array as mask, got list$"),  # type: ignore[arg-type]
        (lambda: Mask(np.ones((2, 2))), r"boolean mask, got float64 \(2, 2\)"),  # type: ignore[arg-type]
        (lambda: Mask(np.zeros((2, 2), dtype=np.bool_)), "at least one pixel"),
        (lambda: Text(None), "more than blanks, got None"),  # type: ignore[arg-type]
        (lambda: Box("1", 2, 3, 4), "expected numbers"),  # type: ignore[arg-type]
        (lambda: Box(1, 2, 3, None), "expected numbers"),  # type: ignore[arg-type]
        (lambda: Box(3, 2, 1, 4), "x1 < x2 and y1 < y2"),
        (lambda: Prompts(), "or a text, got nothing"),
        (lambda: Points(()), "at least one foreground point"),
        (lambda: Points((1, 2), background=(float("inf"), 1)), r"finite \(x, y\) pairs"),  # type: ignore[arg-type]
        (lambda: as_prompt({"foreground": (1, 2), "colour": 1}), "colour"),
        (lambda: as_prompt([Box(1, 2, 3, 4), Points((1, 2))]), r"are one Prompts\(boxes="),
        (lambda: as_prompt([(1, 2, 3, 4), Box(1, 2, 3, 4)]), r"are one Prompts\(boxes="),
        (lambda: Prompts(background=((1, 2),)), "got background points, which only say what is not meant"),
        (lambda: as_prompt({"text": "x", "granularity": "part"}), "granularity go with points alone"),
    ],
)
def test_refusals_say_what_was_expected(make: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        make()  # type: ignore[operator]


def test_prompts_hold_plain_numbers_whatever_they_were_made_of() -> None:
    prompt = Box(*np.array([1, 2, 3, 4], dtype=np.float32))
    assert all(type(getattr(prompt, name)) is float for name in BOX_FIELDS)
    assert all(type(side) is float for side in Points(np.array([1, 2])).foreground[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (Points((1, 2)), "point"),
        (Points(((1, 2), (3, 4))), "points"),
        (Points((1, 2), background=(3, 4)), "background"),
        (Box(1, 2, 3, 4), "box"),
        (Text("apple"), "text"),
        (Mask(MASK), "mask"),
        (WholeImage(), "image"),
        (Prompts(((1, 2, 3, 4), (5, 6, 7, 8))), "boxes"),  # type: ignore[arg-type]
        (Prompts((Box(1, 2, 3, 4),), background=((5, 6),)), "mixed"),
        (Prompts(foreground=((5, 6),), text="apple"), "mixed"),
        (Prompts((1, 2, 3, 4), foreground=(5, 6)), "mixed"),
        (Prompts((1, 2, 3, 4), text="apple"), "mixed"),
    ],
)
def test_prompts_are_described_by_kind(prompt: Prompt, kind: str) -> None:
    assert describe_prompt(prompt)["kind"] == kind


def test_descriptions_say_what_was_given() -> None:
    assert describe_prompt(Points((1, 2), (3, 4), "part")) == {
        "kind": "background",
        "foreground": [[1.0, 2.0]],
        "background": [[3.0, 4.0]],
        "granularity": "part",
        "rule": "searchanything",
    }
    assert describe_prompt(Box(1, 2, 3, 4))["box_xyxy"] == [1.0, 2.0, 3.0, 4.0]
    assert describe_prompt(Mask(MASK))["area_px"] == 4
