"""Masks are decoded as their runs say: an independent reading of COCO's format, run by run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from searchanything.core.geometry import check_rle, decode_rle, encode_rle
from searchanything.core.types import BoolMask, MaskRLE


def text_of(runs: list[int]) -> str:
    """COCO's compressed text, number by number, as its maskApi.c describes it."""
    characters = []
    for place, run in enumerate(runs):
        left = run - runs[place - 2] if place > 2 else run
        while True:
            group, left = left & 31, left >> 5
            is_last = left == (-1 if group & 16 else 0)
            characters.append(chr(48 + group + (0 if is_last else 32)))
            if is_last:
                break
    return "".join(characters)


def laid_out(runs: list[int], height: int, width: int) -> BoolMask:
    """Each cell by hand, down the columns."""
    cells = [bool(place % 2) for place, run in enumerate(runs) for _ in range(run)]
    mask = np.zeros((height, width), dtype=np.bool_)
    for number, cell in enumerate(cells):
        mask[number % height, number // height] = cell
    return mask


@given(st.data(), st.integers(1, 60), st.integers(1, 60))
def test_any_runs_that_fill_the_grid_are_decoded_as_they_say(data: st.DataObject, height: int, width: int) -> None:
    """Runs of nothing too, which no encoder writes but any file may have."""
    cuts = data.draw(st.lists(st.integers(0, height * width), max_size=20).map(sorted))
    runs = np.diff([0, *cuts, height * width]).tolist()
    rle = MaskRLE((height, width), text_of(runs))
    assert check_rle(rle).tolist() == runs
    decoded = decode_rle(rle)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, laid_out(runs, height, width))


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40)))
def test_what_was_encoded_is_decoded(mask: BoolMask) -> None:
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


def overflowing() -> str:
    """Two rising ramps of runs whose sum is 2^64 + 9, each number of less than 35 bits."""
    steps = 47_000
    step, rest = divmod(2**64 + 9, steps * (steps + 1))
    runs = [0] + [step * (place // 2) for place in range(2, 2 * steps + 2)]
    runs[-1] += rest
    assert sum(runs) == 2**64 + 9
    return text_of(runs)


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(text_of([5, -1, 5]), id="a negative run"),
        pytest.param("Y" + "P" * 12 + "1", id="2^65 + 9"),
        pytest.param("y", id="9 and 64"),
        pytest.param("9p", id="9, 64"),
        pytest.param("\x190", id="41 less 64"),
        pytest.param(overflowing(), id="2^64 + 9 cells"),
    ],
)
def test_what_comes_to_nine_cells_in_fewer_bits_alone_is_refused(counts: str) -> None:
    assert check_rle(MaskRLE((3, 3), "Y0")).tolist() == check_rle(MaskRLE((3, 3), "9")).tolist() == [9]
    with pytest.raises(ValueError, match="fill a mask"):
        check_rle(MaskRLE((3, 3), counts))
