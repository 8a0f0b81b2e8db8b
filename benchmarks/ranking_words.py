"""Words alone over labelled regions: codes of f_I against an exact float search, for `benchmarks/ranking.py`.

The layer is fitted to the regions themselves, as `index --add-words` does on a sample of the index: no labels. Asked is
every name that some region has. hit@5: any of the first five is of that name; precision@10: over as many as there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ranking_data import Regions
from benchmarks.ranking_table import Line, Values, compared
from searchanything.core.codes import hamming, pack_signs, unit_rows
from searchanything.core.types import Codes, FloatArray
from searchanything.encode.encoder import Encoder
from searchanything.hash_training.rotations import random_projection, rotation_generator
from searchanything.hash_training.words_training import WORDS_BITS, train_words
from searchanything.models.words_layer import WordsLayer
from searchanything.search.rescoring import similarities

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "a drawing of a {}", "an image of the {}")
WINDOW = 400  # `search.rescore_words`
Scores = Callable[[FloatArray], FloatArray]


SHIPPED = "fitted, rescored"  # what an index does


def words_table(encoder: Encoder, regions: Regions, data: str) -> tuple[dict[str, Any], list[Line]]:
    """Each method's hit@5 and precision@10, by whether training saw the thing, printed; float against what ships."""
    asked = [number for number in range(len(regions.names)) if (regions.labels == number).any()]
    names = [regions.names[number] for number in asked]
    plain = encoder.embedder.embed_texts(names)
    many = unit_rows(
        np.sum([encoder.embedder.embed_texts([form.format(name) for name in names]) for form in TEMPLATES], axis=0)
    )
    values = {}
    for method, texts, score in _methods(encoder, regions, plain, many):
        values[method] = _values(regions, asked, [np.argsort(-score(text), kind="stable") for text in texts])
    table = {method: _figures(regions, asked, one) for method, one in values.items()}
    _show(table, len(asked), len(regions.labels))
    ways = [(name, values[name]) for name in ("float", SHIPPED)]
    lines = [
        compared("words alone", data, figure, *((name, found[figure]) for name, found in ways))
        for figure in ("hit@5", "precision@10")
    ]
    return table, lines


def _methods(
    encoder: Encoder, regions: Regions, plain: FloatArray, many: FloatArray
) -> Sequence[tuple[str, FloatArray, Scores]]:
    rows, everyday = unit_rows(regions.image), encoder.everyday_words()
    fitted = train_words(regions.image, everyday)
    dimension = rows.shape[1]
    rotation = random_projection(dimension, bits=WORDS_BITS, generator=rotation_generator(0))
    zero = np.zeros(dimension, dtype=np.float32)
    turned = WordsLayer.create(rotation, rows.mean(axis=0), everyday.mean(axis=0), method="random")
    uncentred = WordsLayer.create(rotation, zero, zero, method="random, uncentred")
    found: list[tuple[str, FloatArray, Scores]] = [("float", plain, lambda text: rows @ text)]
    found.append(("float, templates", many, lambda text: rows @ text))
    for name, layer in (("uncentred", uncentred), ("centred", turned), ("fitted", fitted)):
        codes = layer.encode(regions.image)
        found.append((f"{name}, bits", layer.project_texts(plain), _by_bits(codes)))
        found.append((f"{name}, rescored", layer.project_texts(plain), _rescored(codes)))
    found.append(("fitted, rescored, templates", fitted.project_texts(many), _rescored(fitted.encode(regions.image))))
    return found


def _by_bits(codes: Codes) -> Scores:
    return lambda text: -hamming(pack_signs(text[None]), codes)[0].astype(np.float32)


def _rescored(codes: Codes) -> Scores:
    """By bits, the first `WINDOW` by the text's projection."""

    def score(text: FloatArray) -> FloatArray:
        found = _by_bits(codes)(text)
        window = np.argsort(-found, kind="stable")[:WINDOW]
        found[window] = 1 + similarities(text, codes[window])
        return found

    return score


def _values(regions: Regions, asked: Sequence[int], orders: Sequence[NDArray[np.intp]]) -> dict[str, Values]:
    hits, precisions = [], []
    for number, order in zip(asked, orders, strict=True):
        right = regions.labels[order[:10]] == number
        hits.append(float(right[:5].any()))
        precisions.append(float(right.sum() / min(10, (regions.labels == number).sum())))
    return {"hit@5": np.array(hits), "precision@10": np.array(precisions)}


def _figures(regions: Regions, asked: Sequence[int], values: Mapping[str, Values]) -> dict[str, Any]:
    unseen = regions.unseen[list(asked)]
    groups = {"all": np.ones(len(asked), dtype=bool), "seen": ~unseen, "unseen": unseen}
    return {
        name: {"names": int(group.sum())} | {what: round(float(one[group].mean()), 4) for what, one in values.items()}
        for name, group in groups.items()
        if group.any()
    }


def _show(table: Mapping[str, Any], names: int, regions: int) -> None:
    print(f"  words alone: {names} names over {regions} regions; hit@5 / precision@10")
    for method, groups in table.items():
        cells = "   ".join(f"{name} {one['hit@5']:.3f} / {one['precision@10']:.3f}" for name, one in groups.items())
        print(f"    {method:28s} {cells}")
