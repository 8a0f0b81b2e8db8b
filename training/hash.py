"""Train the hash layer that a preset ships: `tanh(W (f_M ⊕ f_I) + b)`, bit = output > 0.

    python -m training.hash --features FEATURES.npz --out FILE

Convention, shared with the package's hasher: f_M and f_I are each brought to unit length and concatenated in this
order; centring, the weights of the blocks and the rotation are all folded into `weight` and `bias`. The layer is
self-supervised: it is to keep cosine similarities. Labels of the features serve to choose the block weights and the
method, on images that the layer was not fitted to.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from training.retrieval_metrics import mean_average_precision

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
FORMAT = "searchanything-hash-v1"
_MASK_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # never 0: the layer is of both blocks by design
_ITQ_ROUNDS = 40


@dataclass(frozen=True, slots=True, eq=False)
class RegionFeatures:
    """Features of n regions: `mask` (n, C), `image` (n, D) float32; `concepts`, `images` int64; the others bool.

    Only regions marked `fitting` shape the layer; the others judge it.
    """

    mask: Array
    image: Array
    concepts: NDArray[np.int64]
    images: NDArray[np.int64]
    zero_shot: NDArray[np.bool_]
    fitting: NDArray[np.bool_]

    @classmethod
    def load(cls, path: Path) -> RegionFeatures:
        """Read the arrays of the .npz by the names of the fields. Raises: KeyError for a missing one."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                stored["mask"].astype(np.float32),
                stored["image"].astype(np.float32),
                stored["concepts"],
                stored["images"],
                stored["zero_shot"],
                stored["fitting"],
            )

    def at(self, rows: NDArray[np.bool_]) -> RegionFeatures:
        """The regions selected by `rows`, (n,) bool."""
        return RegionFeatures(
            self.mask[rows],
            self.image[rows],
            self.concepts[rows],
            self.images[rows],
            self.zero_shot[rows],
            self.fitting[rows],
        )

    def concatenated(self) -> Array:
        """(n, C + D): both blocks with unit rows."""
        return np.concatenate([_unit_rows(self.mask), _unit_rows(self.image)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class HashLayer:
    """`weight` (bits, C + D) and `bias` (bits,), float32, over the concatenated unit blocks."""

    weight: Array
    bias: Array

    def activations(self, concatenated: Array) -> Array:
        """(n, C + D) to (n, bits): before the sign."""
        return concatenated @ self.weight.T + self.bias


@dataclass(frozen=True, slots=True, eq=False)
class Centring:
    """(x - mean) * scale per input: both blocks at mean square length 1 times their share."""

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, features: RegionFeatures, *, mask_share: float) -> Centring:
        """The mask block gets `mask_share` of the mean squared length, the image block the rest."""
        inputs = features.concatenated()
        mean = inputs.mean(0)
        split = features.mask.shape[1]
        energy = ((inputs - mean) ** 2).mean(0)
        scale = np.empty_like(mean)
        scale[:split] = np.sqrt(mask_share / max(float(energy[:split].sum()), 1e-12))
        scale[split:] = np.sqrt((1 - mask_share) / max(float(energy[split:].sum()), 1e-12))
        return cls(mean, scale)

    def __call__(self, concatenated: Array) -> Array:
        """Centre and weigh: (n, C + D)."""
        return (concatenated - self.mean) * self.scale

    def fold(self, rotation: Array) -> HashLayer:
        """The layer that centres, weighs and rotates in one affine map; `rotation` is (bits, C + D)."""
        weight = rotation * self.scale
        return HashLayer(weight.astype(np.float32), (-weight @ self.mean).astype(np.float32))


def random_rotation(centred: Array, *, bits: int, rng: np.random.Generator) -> Array:
    """Rows of random orthogonal matrices, as many matrices as `bits` needs: (bits, d). Ignores the values."""
    return _orthogonal_rows(centred.shape[1], bits=bits, rng=rng)


def pca_random_rotation(centred: Array, *, bits: int, rng: np.random.Generator) -> Array:
    """Principal components, then a random rotation, which evens out their variances: (bits, d)."""
    components = _principal_components(centred, bits=bits)
    return _orthogonal_rows(len(components), bits=bits, rng=rng) @ components


def itq(centred: Array, *, bits: int, rng: np.random.Generator) -> Array:
    """Iterative quantisation: the rotation of the principal components that moves them least to their signs.

    Source: Gong and Lazebnik, Iterative Quantization, CVPR 2011, section 2.2.
    """
    components = _principal_components(centred, bits=bits)
    projected = centred @ components.T
    rotation = _orthogonal_rows(len(components), bits=len(components), rng=rng)
    for _ in range(_ITQ_ROUNDS):
        left, _, right = np.linalg.svd(np.sign(projected @ rotation.T).T @ projected)
        rotation = (left @ right).astype(np.float32)
    if len(components) == bits:
        return rotation @ components
    extra = _orthogonal_rows(len(components), bits=bits - len(components), rng=rng)
    return np.concatenate([rotation, extra]) @ components


def distilled_tanh(centred: Array, *, bits: int, rng: np.random.Generator) -> Array:
    """A tanh layer trained so that products of its outputs equal the cosines of its inputs: (bits, d)."""
    inputs = functional.normalize(torch.from_numpy(centred), dim=1)
    start = pca_random_rotation(np.asarray(inputs), bits=bits, rng=rng)
    weight = torch.nn.Parameter(torch.from_numpy(start * math.sqrt(bits)))
    optimiser = torch.optim.Adam([weight], lr=0.02)
    steps = 400
    for step in range(steps):
        rows = inputs[torch.from_numpy(rng.integers(len(inputs), size=512))]
        outputs = torch.tanh((1 + 3 * step / steps) * rows @ weight.T)
        loss = ((outputs @ outputs.T / bits - rows @ rows.T) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    trained: Array = weight.detach().numpy()
    return trained


METHODS: Mapping[str, Callable[..., Array]] = {
    "random rotation": random_rotation,
    "pca, random rotation": pca_random_rotation,
    "itq": itq,
    "distilled tanh": distilled_tanh,
}


def _unit_rows(block: Array) -> Array:
    return np.asarray(block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12), np.float32)


def _principal_components(centred: Array, *, bits: int) -> Array:
    return np.linalg.svd(centred, full_matrices=False)[2][:bits]


def _orthogonal_rows(dimension: int, *, bits: int, rng: np.random.Generator) -> Array:
    squares = [np.linalg.qr(rng.normal(size=(dimension, dimension)))[0] for _ in range(-(-bits // dimension))]
    return np.concatenate(squares)[:bits].astype(np.float32)


def retrieval(scores: Array, features: RegionFeatures, *, queries: NDArray[np.bool_] | None = None) -> float:
    """mAP@10 of the regions among themselves, another image only; `queries` (n,) bool restricts who asks."""
    rows = np.ones(len(features.images), bool) if queries is None else queries
    relevant = features.concepts[rows, None] == features.concepts[None, :]
    admissible = features.images[rows, None] != features.images[None, :]
    return mean_average_precision(scores[rows], relevant, admissible=admissible)


def code_scores(layer: HashLayer, features: RegionFeatures) -> Array:
    """(n, n) similarities of codes: agreeing bits less differing bits."""
    signs = np.where(layer.activations(features.concatenated()) > 0, 1, -1).astype(np.float32)
    return signs @ signs.T


def cosine_scores(inputs: Array) -> Array:
    """(n, n) cosines of rows."""
    unit = _unit_rows(inputs)
    return unit @ unit.T


def choose_mask_share(fitting: RegionFeatures, validation: RegionFeatures) -> tuple[float, dict[float, float]]:
    """The mask block's share with the best float retrieval on the validation regions, and the mAP@10 of all."""
    found = {}
    for share in _MASK_SHARES:
        centring = Centring.fit(fitting, mask_share=share)
        found[share] = retrieval(cosine_scores(centring(validation.concatenated())), validation)
    return max(found, key=lambda share: found[share]), found


def choose_layer(
    fitting: RegionFeatures, validation: RegionFeatures, *, bits: int, mask_share: float
) -> tuple[str, HashLayer, dict[str, float]]:
    """The method whose codes retrieve best on the validation regions, its layer, and the mAP@10 of all."""
    centring = Centring.fit(fitting, mask_share=mask_share)
    centred = centring(fitting.concatenated())
    layers = {
        name: centring.fold(fit(centred, bits=bits, rng=np.random.default_rng(0))) for name, fit in METHODS.items()
    }
    found = {name: retrieval(code_scores(layer, validation), validation) for name, layer in layers.items()}
    best = max(found, key=lambda name: found[name])
    return best, layers[best], found


def save(layer: HashLayer, path: Path, *, mask_dimension: int, method: str, trained_on: str) -> None:
    """Write the layer as the package's hasher reads it."""
    from safetensors.numpy import save_file

    metadata = {
        "format": FORMAT,
        "mask_dimension": str(mask_dimension),
        "image_dimension": str(layer.weight.shape[1] - mask_dimension),
        "bits": str(layer.weight.shape[0]),
        "method": method,
        "trained_on": trained_on,
        "trained": "true",
        "created_by": "python -m training.hash",
    }
    tensors = {"weight": np.ascontiguousarray(layer.weight), "bias": np.ascontiguousarray(layer.bias)}
    save_file(tensors, path, metadata=metadata)


def report(layer: HashLayer, features: RegionFeatures, *, mask_share: float) -> dict[str, float]:
    """mAP@10 of codes and of the weighted float features, for seen and for zero-shot concepts."""
    centring = Centring.fit(features, mask_share=mask_share)
    floats, codes = cosine_scores(centring(features.concatenated())), code_scores(layer, features)
    groups = {"seen": ~features.zero_shot, "zero_shot": features.zero_shot}
    return {
        f"{kind}_{group}": round(retrieval(scores, features, queries=rows), 4)
        for kind, scores in (("float", floats), ("code", codes))
        for group, rows in groups.items()
    }


def main() -> None:
    """Fit, choose and write a hash layer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--features", type=Path, required=True, help=".npz of training.region_features")
    parser.add_argument("--out", type=Path, required=True, help="the layer; its figures go beside it as .json")
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--trained-on", default="pictogram scenes of training.region_features")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    features = RegionFeatures.load(arguments.features)
    fitting, validation = features.at(features.fitting), features.at(~features.fitting)
    share, by_share = choose_mask_share(fitting, validation)
    method, layer, by_method = choose_layer(fitting, validation, bits=arguments.bits, mask_share=share)
    description = f"centred, mask block {share:.2f} of the energy, {method}"
    dimension = features.mask.shape[1]
    save(layer, arguments.out, mask_dimension=dimension, method=description, trained_on=arguments.trained_on)
    figures = {
        "method": description,
        "regions": len(features.images),
        "validation_map_at_10": report(layer, validation, mask_share=share),
        "by_mask_share": {str(key): round(value, 4) for key, value in by_share.items()},
        "by_method": {key: round(value, 4) for key, value in by_method.items()},
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
