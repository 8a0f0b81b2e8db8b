"""Images ranked by their nearest row, against a statement with loops."""

from __future__ import annotations

import numpy as np
import pytest

from searchanything.evaluation import image_ranking
from searchanything.evaluation.image_ranking import ImageRows, rank_images

IMAGES = 130  # more than are ranked
BITS = 16


def rows_of(image: np.ndarray, seed: int) -> ImageRows:
    rng = np.random.default_rng(seed)
    projections = rng.normal(size=(len(image), BITS)).astype(np.float32)
    return ImageRows(
        image=image,
        joined=(rng.normal(size=(len(image), 5)) * rng.uniform(0.5, 9, (len(image), 1))).astype(np.float16),
        codes=np.packbits(projections > 0, axis=1),
        projections=projections,
        pairs=np.zeros((0, 2), dtype=np.int64),
        area_px=np.zeros(0),
    )


def similarity(name: str, queries: ImageRows, query: int, rows: ImageRows, row: int) -> float:
    signs = 2.0 * np.unpackbits(rows.codes[row]) - 1
    if name == f"bits_{BITS}":
        return float((2.0 * np.unpackbits(queries.codes[query]) - 1) @ signs)
    if name == f"bits_{BITS}_rescored":
        return float(queries.projections[query] @ signs)
    one, other = queries.joined[query].astype(np.float64), rows.joined[row].astype(np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("blocks", [False, True], ids=["at once", "in blocks"])
def test_images_rank_by_their_nearest_row(monkeypatch: pytest.MonkeyPatch, blocks: bool) -> None:
    if blocks:
        monkeypatch.setattr(image_ranking, "_IMAGES_AT_ONCE", 7)
        monkeypatch.setattr(image_ranking, "_QUERIES_AT_ONCE", 2)
    rng = np.random.default_rng(2)
    rows = rows_of(np.repeat(np.arange(IMAGES), rng.integers(0, 4, IMAGES)), seed=3)  # some images have no row
    assert 100 < len(set(rows.image.tolist())) < IMAGES
    queries = rows_of(np.array([0, 5, 5, 128, 129]), seed=4)
    names = []
    for name, ranked in rank_images(queries, rows, images=IMAGES, seed=1):
        names.append(name)
        assert ranked.images.shape == ranked.rows.shape == (5, 100)
        for query, own in enumerate(queries.image.tolist()):
            found = [similarity(name, queries, query, rows, row) for row in range(len(rows.image))]
            best = {int(one): max(f for f, i in zip(found, rows.image, strict=True) if i == one) for one in rows.image}
            best.pop(own, None)
            images, nearest = ranked.images[query].tolist(), ranked.rows[query].tolist()
            assert len(set(images)) == 100
            expected = sorted(best.values(), reverse=True)[:100]
            assert [best[one] for one in images] == pytest.approx(expected, abs=1e-5)
            assert [found[row] for row in nearest] == pytest.approx(expected, abs=1e-5)
            assert rows.image[nearest].tolist() == images
    assert names == ["float", f"bits_{BITS}", f"bits_{BITS}_rescored"]


def test_images_without_rows_are_in_no_ranking_and_fill_no_place() -> None:
    rows = rows_of(np.array([0, 0, 2, 2, 2]), seed=5)
    for _, ranked in rank_images(rows_of(np.array([0, 1]), seed=6), rows, images=4, seed=1):
        assert ranked.images.tolist()[0] == [2, -1, -1, -1]
        assert sorted(ranked.images[1, :2].tolist()) == [0, 2]
        assert ranked.images[1, 2:].tolist() == ranked.rows[1, 2:].tolist() == [-1, -1]
        assert rows.image[ranked.rows[0, 0]] == 2


def test_equally_near_images_come_in_an_order_of_the_seed() -> None:
    rows = rows_of(np.arange(20), seed=7)
    rows.codes[:] = rows.codes[0]
    queries = rows_of(np.array([3, 4]), seed=8)
    orders = [dict(rank_images(queries, rows, images=20, seed=seed))[f"bits_{BITS}"].images for seed in (1, 1, 2)]
    np.testing.assert_array_equal(orders[0], orders[1])
    first, second, other = ([one for one in order if one not in (3, 4, -1)] for order in (*orders[0], orders[2][0]))
    assert first == second != other
    assert first != sorted(first)
