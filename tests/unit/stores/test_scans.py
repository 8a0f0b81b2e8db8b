"""The scans of codes: faiss' and NumPy's find the same rows, whatever ties there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchanything.core.types import Codes
from searchanything.stores import scans


def by_hand(query: Codes, codes: Codes, limit: int) -> set[tuple[int, int]]:
    """Number and distance of all rows that are no farther than the `limit`-th nearest, by Python's integers."""
    asked = int.from_bytes(query.tobytes())
    distances = [(int.from_bytes(code.tobytes()) ^ asked).bit_count() for code in codes]
    farthest = sorted(distances)[:limit][-1]
    return {(number, distance) for number, distance in enumerate(distances) if distance <= farthest}


@pytest.fixture(params=["faiss", "numpy"])
def scan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        monkeypatch.setattr(scans, "faiss", lambda: None)
    return str(request.param)


@pytest.mark.usefixtures("scan")
@pytest.mark.parametrize(("code_bytes", "values"), [(1, 4), (8, 2), (32, 2), (32, 256), (5, 3)])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_all_ties_of_the_last_row_are_found(code_bytes: int, values: int, limit: int) -> None:
    random = np.random.default_rng(code_bytes * values + limit)
    codes = random.integers(0, values, (3000, code_bytes), dtype=np.uint8)
    queries = random.integers(0, values, (3, code_bytes), dtype=np.uint8)
    for query, (numbers, distances) in zip(queries, scans.nearest_codes(queries, codes, limit), strict=True):
        found = list(zip(numbers.tolist(), distances.tolist(), strict=True))
        assert len(set(found)) == len(found)
        assert set(found) == by_hand(query, codes, limit)


@pytest.mark.usefixtures("scan")
def test_equal_codes_are_all_found() -> None:
    codes = np.full((5000, 32), 7, dtype=np.uint8)
    [(numbers, distances)] = scans.nearest_codes(codes[:1], codes, 10)
    assert sorted(numbers.tolist()) == list(range(5000))
    assert not distances.any()


@pytest.mark.usefixtures("scan")
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 70])
def test_few_codes(count: int) -> None:
    codes = np.arange(count, dtype=np.uint8)[:, None]
    [(numbers, _)] = scans.nearest_codes(np.zeros((1, 1), dtype=np.uint8), codes, 10)
    assert {(int(n)) for n in numbers} == (
        {n for n, _ in by_hand(np.zeros(1, np.uint8), codes, 10)} if count else set()
    )


@given(data=st.data(), code_bytes=st.integers(1, 33), count=st.integers(0, 50))
def test_distances_of_any_length(data: st.DataObject, code_bytes: int, count: int) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    codes = np.random.default_rng(seed).integers(0, 256, (count + 1, code_bytes), dtype=np.uint8)
    expected = [[int(np.unpackbits(a ^ b).sum()) for b in codes[1:]] for a in codes[:1]]
    assert scans.hamming(codes[:1], codes[1:]).tolist() == expected
