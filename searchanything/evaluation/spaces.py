"""In which the regions are compared: float features, codes, and what ablations make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from searchanything.core.digests import Numbers
from searchanything.core.errors import UniformFeaturesError
from searchanything.core.types import Codes, FloatArray
from searchanything.encode.encoder import Encoder
from searchanything.evaluation.evidence import Rows, RowsOf
from searchanything.evaluation.measures import DEPTH
from searchanything.evaluation.observing import AS_SHIPPED
from searchanything.evaluation.ranking import rescored, signs, units
from searchanything.features.parquet import FeatureBatch
from searchanything.hash_training.rotations import pca_rotation
from searchanything.hash_training.sampling import draw_sample
from searchanything.hash_training.standardising import Standardisation
from searchanything.hash_training.training import MASK_SHARE, SAMPLE_ROWS
from searchanything.models.hashing import HashLayer

FITTED: Final = "pca-rotation"  # the method, as `hash train` names it
CODE_LENGTHS: Final = (256, 64)  # bits that every report has
_ROWS_AT_ONCE: Final = 16384


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A way to compare rows: its features by inner product, and where they come from, for people.

    `again` puts the nearest in another order: queries (Q,) and what was ranked (Q, K), all as rows -> (Q, K).
    """

    rows_of: RowsOf
    source: str
    again: Callable[[Numbers, Numbers], Numbers] | None = None


def space_name(bits: int) -> str:
    """The name of the space of codes of so many bits."""
    return f"bits_{bits}"


def main_spaces(rows: Rows, encoder: Encoder, *, seed: int) -> dict[str, Space]:
    """Float cosine, plain and weighted as the hash layer does, and codes: of the encoder's own layer, plain and
    rescored, and of layers fitted here for the lengths that it lacks.
    """
    hasher = encoder.hasher
    own = "trained" if hasher.trained else "untrained"
    spaces = {
        "float": Space(units(joined(rows)), "cosine of [f_M / |f_M|, f_I / |f_I|], before the hash layer"),
        "float_weighted": Space(
            units(weighted(rows, encoder)), "cosine of the same, centred and weighted as the layer's"
        ),
        space_name(hasher.bits): Space(
            signs(rows.codes[AS_SHIPPED]), f"the index's own layer, {own}, sha256 {hasher.digest}"
        ),
        f"{space_name(hasher.bits)}_rescored": Space(
            signs(rows.codes[AS_SHIPPED]),
            f"the same, the first {DEPTH} in the order of the query's real values against the codes, as search does",
            again=_rescoring(rows, encoder),
        ),
    }
    for bits in CODE_LENGTHS:
        if bits == hasher.bits:
            continue
        layer = fitted_layer(rows, encoder, bits=bits, seed=seed)
        source = f"fitted here on the indexed regions by {FITTED}: a baseline, not a trained layer"
        spaces[space_name(bits)] = Space(signs(_codes(rows, layer)), source)
    return spaces


def weighted(rows: Rows, encoder: Encoder) -> RowsOf:
    """What the hash layer turns into bits, before it does: joined rows, centred and weighted as its file notes."""
    standardisation = Standardisation.of_layer(HashLayer.from_bytes(encoder.hasher.to_bytes()))
    whole = joined(rows)
    return lambda numbers: standardisation.apply(whole(numbers))


def _rescoring(rows: Rows, encoder: Encoder) -> Callable[[Numbers, Numbers], Numbers]:
    """As search orders its window: the query's projection against the codes that the index holds."""
    split, whole = encoder.segmenter.feature_dimension, joined(rows)

    def again(queries: Numbers, ranked: Numbers) -> Numbers:
        features = whole(queries)
        projections = encoder.hasher.project(features[:, :split], features[:, split:])
        return rescored(ranked, projections, rows.codes[AS_SHIPPED])

    return again


def ablated_spaces(rows: Rows, encoder: Encoder) -> dict[str, dict[str, Space]]:
    """By ablation, float and code spaces. Codes are those of the encoder's own layer."""
    split = encoder.segmenter.feature_dimension
    whole = joined(rows)

    def image_part(numbers: Numbers) -> FloatArray:
        return whole(numbers)[:, split:]

    mean = _mean(rows)

    def centred(numbers: Numbers) -> FloatArray:
        return whole(numbers) - mean

    spaces = {
        "mask_features_off": {"float": Space(units(image_part), "cosine of f_I alone")},
        "centred": {"float": Space(units(centred), "float features less their mean over the index")},
    }
    name = space_name(encoder.hasher.bits)
    for ablation in rows.changed:
        spaces[ablation] = {
            "float": Space(units(joined(rows, ablation=ablation, split=split)), "cosine"),
            name: Space(signs(rows.codes[ablation]), "the index's own layer"),
        }
    return spaces


def joined(rows: Rows, *, ablation: str | None = None, split: int = 0) -> RowsOf:
    """[f_M / |f_M|, f_I / |f_I|] of rows, or with the crops of an ablation; f_I begins at column `split`."""
    if ablation is None:
        return lambda numbers: rows.joined[numbers].astype(np.float32)
    changed = rows.changed[ablation]

    def rows_of(numbers: Numbers) -> FloatArray:
        features = rows.joined[numbers].astype(np.float32)
        features[:, split:] = changed[numbers]
        return features

    return rows_of


def fitted_layer(rows: Rows, encoder: Encoder, *, bits: int, seed: int) -> HashLayer:
    """The simplest baseline of `hash train` on the indexed regions: centred, principal components, random rotation."""
    split = encoder.segmenter.feature_dimension
    unfitted = HashLayer.random_rotation(split, encoder.embedder.dimension, bits=bits, seed=seed)
    if not rows.kept[:, 0].any():  # nothing to fit to, and nothing to find
        return unfitted
    sample = draw_sample(_batches(rows, split), rows=SAMPLE_ROWS, seed=seed)
    try:
        standardisation = Standardisation.of(sample, mask_share=MASK_SHARE)
    except UniformFeaturesError:  # nothing to tell apart either
        return unfitted
    generator = np.random.default_rng(seed)
    projection = pca_rotation(standardisation.apply(sample.rows), bits=bits, generator=generator)
    weight, bias = standardisation.fold(projection, np.zeros(bits, dtype=np.float32))
    provenance = {"method": FITTED, "trained": "true", "seed": str(seed)}
    return HashLayer.create(weight, bias, mask_dimension=sample.mask_dimension, provenance=provenance)


def _batches(rows: Rows, split: int) -> Iterator[FeatureBatch]:
    """The features of the rows that the index holds."""
    index = np.flatnonzero(rows.kept[:, 0])
    for start in range(0, len(index), _ROWS_AT_ONCE):
        features = rows.joined[index[start : start + _ROWS_AT_ONCE]].astype(np.float32)
        yield FeatureBatch(features[:, :split], features[:, split:])


def _mean(rows: Rows) -> FloatArray:
    """The mean features of the rows that the index holds."""
    index = np.flatnonzero(rows.kept[:, 0])
    total = np.zeros(rows.joined.shape[1])
    for start in range(0, len(index), _ROWS_AT_ONCE):
        total += rows.joined[index[start : start + _ROWS_AT_ONCE]].sum(axis=0, dtype=np.float64)
    return np.asarray(total / max(1, len(index)), dtype=np.float32)


def _codes(rows: Rows, layer: HashLayer) -> Codes:
    """The codes of all rows under a layer, (R, bits // 8)."""
    parts = [np.zeros((0, layer.bits // 8), dtype=np.uint8)]
    for start in range(0, len(rows.image), _ROWS_AT_ONCE):
        features = rows.joined[start : start + _ROWS_AT_ONCE].astype(np.float32)
        parts.append(layer.encode(features[:, : layer.mask_dimension], features[:, layer.mask_dimension :]))
    return np.concatenate(parts)
