"""Centring and weighting of the two blocks of features, which training learns and W and b then carry.

    y = A ((x - mean) * scale),  W' y = (W' A * scale) x - (W' A * scale) mean

x is [f_M / |f_M|, f_I / |f_I|]. Each block gets one scale, so that the mask block has a chosen share of the mean
squared length, which is 1. Scales per column would blow up channels that hardly ever change. Where classes of regions
are known, A is the map of `neighbours.class_whitening`; else there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import safetensors.numpy

from searchanything.core.errors import ModelError, UniformFeaturesError
from searchanything.core.types import FloatArray
from searchanything.hash_training.neighbours import class_whitening
from searchanything.hash_training.sampling import FeatureSample
from searchanything.models.hashing import HashLayer

CLASS_STRENGTH = 1.0  # docs/hashing.md has the figures
_LEAST_ENERGY = 1e-9  # of a block at unit length: less is rounding, which must not be blown up


@dataclass(frozen=True, slots=True, eq=False)
class Standardisation:
    """`mean` and `scale` (C + D,) float32 of the joined unit blocks; `whitening` (C + D, C + D) symmetric, or None."""

    mean: FloatArray
    scale: FloatArray
    whitening: FloatArray | None = None

    @classmethod
    def of(cls, sample: FeatureSample, *, mask_share: float) -> Standardisation:
        """From the moments of all rows that were seen, and the classes of the sample's rows, where they are known.

        A block that is not there or never changes counts nothing.

        Raises: UniformFeaturesError where all rows are the same.
        """
        split = sample.mask_dimension
        blocks = ((slice(0, split), mask_share), (slice(split, None), 1 - mask_share))
        energies = [float(sample.variance[block].sum()) for block, _ in blocks]
        changing = sum(share for (_, share), energy in zip(blocks, energies, strict=True) if energy > _LEAST_ENERGY)
        if not changing:
            raise UniformFeaturesError(f"all {sample.seen} regions have the same features: nothing tells them apart")
        scale = np.zeros_like(sample.variance)
        for (block, share), energy in zip(blocks, energies, strict=True):
            if energy > _LEAST_ENERGY:
                scale[block] = np.sqrt(share / changing / energy)
        weighted = cls(sample.mean.astype(np.float32), scale.astype(np.float32))
        if sample.classes is None:
            return weighted
        whitening = class_whitening(weighted.apply(sample.rows), sample.classes, strength=CLASS_STRENGTH)
        return replace(weighted, whitening=whitening)

    @classmethod
    def of_layer(cls, layer: HashLayer) -> Standardisation:
        """What training kept in the layer's file; nothing is centred or weighted where it kept nothing.

        Raises: ModelError for what fits no such layer.
        """
        tensors = safetensors.numpy.load(layer.to_bytes())
        columns = layer.weight.shape[1]
        shapes = {"mean": (columns,), "scale": (columns,), "whitening": (columns, columns)}
        notes = {name: tensors[name] for name in shapes if name in tensors}
        for name, note in notes.items():
            if note.shape != shapes[name] or note.dtype.kind != "f" or not np.isfinite(note).all():
                raise ModelError(
                    f"expected finite floats {shapes[name]} as the hash layer's {name}, got {note.dtype} {note.shape}; "
                    "train it again"
                )
        return cls(
            notes.get("mean", np.zeros(columns, np.float32)),
            notes.get("scale", np.ones(columns, np.float32)),
            notes.get("whitening"),
        )

    def notes(self) -> dict[str, FloatArray]:
        """What a layer's file keeps of it, for `of_layer`."""
        known = {"mean": self.mean, "scale": self.scale}
        return known if self.whitening is None else {**known, "whitening": self.whitening}

    def apply(self, rows: FloatArray) -> FloatArray:
        """(n, C + D) joined unit blocks, centred, weighted and whitened."""
        centred: FloatArray = rows - self.mean
        centred *= self.scale
        return centred if self.whitening is None else centred @ self.whitening

    def fold(self, projection: FloatArray, offset: FloatArray) -> tuple[FloatArray, FloatArray]:
        """W (bits, C + D) and b (bits,) that act on x as `projection` y + `offset` acts on y. Sums are in float64."""
        exact = projection.astype(np.float64)
        whitened = exact if self.whitening is None else exact @ self.whitening.astype(np.float64)
        weight = whitened * self.scale
        bias = offset - weight @ self.mean.astype(np.float64)
        return weight.astype(np.float32), bias.astype(np.float32)
